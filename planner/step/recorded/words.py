"""What a run is known by when it is looked for among the recorded dry runs: everything that decides which tensors
there are, in words, and nothing that only decides how large they are.

Two runs of one family with equal words make the same tensors. Lengths, widths and counts of layers are left out; where
a number changes a kernel, the kernel is among the words.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from hashlib import sha256
from itertools import groupby
from typing import NamedTuple

from planner.families.parts import Decoder, Mixer
from planner.gpu import Gpu
from planner.request.lora import Lora
from planner.request.low_rank import projection_of
from planner.request.recipe import Recipe
from planner.step.from_recipe.adapted_layers import adapters_by_kind, by_adapters
from planner.step.from_recipe.derive_switches import switches_of
from planner.step.from_recipe.linears import linears
from planner.step.switches import Copies, LayerSwitches, LigerPatches, Switches
from planner.step.unsloth_numbers import offloads

Words = Mapping[str, str]
# What tells the models of one family apart, by the parts of a decoder that people know.
BUILD = ("embeddings and head", "attention layers", "feed-forward layers", "norms and residuals")


class Known(NamedTuple):
    """One part of a run: of which family ("" where all families share it), and its switches by name."""

    family: str
    words: Words


def step_words(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> Known:
    """What decides the tensors of forward, loss and backward."""
    switches = switches_of(by_adapters(decoder, recipe.lora), recipe, gpu)
    return _step_words(decoder, recipe.of_any_size, switches)


@lru_cache(maxsize=256)
def _step_words(decoder: Decoder, recipe: Recipe, switches: Switches) -> Known:
    layers, training = switches.layers, recipe.training
    words = {
        "method": _method(recipe),
        "storage": _storage(recipe),
        "precision": _precision(recipe),
        "attention": _attention(layers) + (f", {switches.sequence_by} over cards" if switches.sequence_by else ""),
        "key heads": _key_heads(layers),
        "checkpointing": _checkpointing(switches),
        "loss": _loss(switches),
        "objective": f"{recipe.objective}, {len(switches.passes)} passes",
        "sequences": "one" if switches.one_sequence else "several",
        "padding": "padded" if training.padded else "packed" if training.packing else "none",
        "attention mask": "made by the collator" if switches.collated else "none",
        "accumulation": "accumulated" if switches.accumulates else "none",
        "adapted layers": _adapted(decoder, recipe, switches),
        "offloading": "saved activations" if switches.offloads is not None else "none",
        "fake quantization": "inputs and weights" if switches.qat_group else "none",
        "noise": "on the embedded tokens" if switches.noisy else "none",
        "dropout": "adapters" if switches.dropout else "none",
        "DoRA": "on" if switches.dora else "off",
        "PEFT type": switches.peft_type,
        "biases": switches.biases,
        "whole modules": _copies(switches.copies) + _rows(switches),
        "ranks": _joined(switches.ranks) if recipe.lora and recipe.lora.rank_pattern else "one",
        "4-bit products": _fused(switches),
        "chunks": _chunks(decoder, switches),
        "experts": _experts(decoder, switches),
        **_build(decoder),
    }
    return Known(decoder.model_type, words)


def generation_words(decoder: Decoder, recipe: Recipe, gpu: Gpu, cache: str = "dynamic") -> Known:
    """What decides the tensors of transformers' `generate`, which trains nothing; `cache`: how it keeps its cache."""
    step = step_words(decoder, recipe, gpu).words
    names = ("storage", "precision", "attention", "key heads", "sequences", "experts", *BUILD)
    return Known(decoder.model_type, {**{name: step[name] for name in names}, "cache": cache})


def evaluation_words(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> Known:
    """What decides the tensors of a batch that is evaluated: those of a step, but what only gradients ask for."""
    step = step_words(decoder, recipe, gpu).words
    only_trained = {"method", "checkpointing", "accumulation", "objective", "dropout", "noise", "offloading"}
    return Known(decoder.model_type, {name: value for name, value in step.items() if name not in only_trained})


def weights_words(model_type: str, recipe: Recipe) -> Known:
    """What decides how the base model is held."""
    preparation = "upcast by prepare_model_for_kbit_training" if recipe.kbit_preparation else "none"
    words = {"storage": _storage(recipe), "dtype": recipe.model_dtype, "preparation": preparation}
    return Known(model_type, words)


def trained_words(model_type: str, recipe: Recipe) -> Known:
    """What decides the tensors that are trained, and their gradients."""
    lora = recipe.lora
    words = {
        "method": _method(recipe),
        "dtype": recipe.trained_dtype,
        "adapted layers": "none" if lora is None else _targets(lora.target_modules) + _further(lora),
        "DoRA": "on" if lora and lora.use_dora else "off",
        "PEFT type": lora.peft_type if lora else "none",
        "whole modules": _whole(lora),
    }
    return Known(model_type, words)


def optimizer_words(recipe: Recipe) -> Known:
    """What decides the optimizer's state; its formulas ask of a tensor no more than its size."""
    words = {
        "method": _method(recipe),
        "optimizer": _optimizer(recipe),
        "gradient norm": "clipped" if recipe.training.max_grad_norm > 0 else "not read",
        "loss scale": "kept" if recipe.scales_loss else "none",
        "embeddings": "in 32 bit" if recipe.by_trainer and recipe.method == "full" else "as the rest",
    }
    return Known("", words)


def _optimizer(recipe: Recipe) -> str:
    """Its name; where it projects gradients, from which side, how, and of which width."""
    training = recipe.training
    projection = projection_of(training.optim, training.optim_args)
    if projection is None:
        return training.optim
    how = "decomposed" if projection.decomposed else "random"
    return f"{training.optim}, {projection.side}, {how}, {recipe.trained_dtype}"


def workspace_words(capability: tuple[int, int] | None) -> Known:
    """What decides the size of cuBLAS's workspaces."""
    return Known("", {"compute capability": "not known" if capability is None else f"{capability[0]}.{capability[1]}"})


@lru_cache(maxsize=256)
def _build(decoder: Decoder) -> Words:
    """Each part of the model as a digest of what the formulas know of it; together they are the whole structure."""
    structure = decoder.structure
    blocks = structure.blocks
    parts = (
        replace(structure, blocks=()),
        tuple(block.attention for block in blocks),
        tuple(block.mlp for block in blocks),
        tuple(replace(block, attention=None, mlp=None) for block in blocks),
    )
    return {name: sha256(repr(part).encode()).hexdigest()[:6] for name, part in zip(BUILD, parts, strict=True)}


def buffer_words(decoder: Decoder, recipe: Recipe) -> Known:
    """What decides what Unsloth keeps on the card beside the model."""
    waits = "on the host" if offloads(recipe, decoder.sizes["h"]) else "on the card"
    words = {
        "storage": _storage(recipe),
        "layers' inputs": waits,
        "dropout": "adapters" if recipe.dropout else "none",
        "padding": "padded" if recipe.training.padded else "none",
    }
    return Known(decoder.model_type, words)


def _method(recipe: Recipe) -> str:
    return "full" if recipe.lora is None else "adapters"


def _storage(recipe: Recipe) -> str:
    quantization = recipe.quantization
    if quantization is None:
        return "not quantized"
    if quantization.quant_method != "bitsandbytes":
        return quantization.quant_method
    if quantization.load_in_8bit:
        return "8 bit"
    return "4 bit" + (", constants quantized again" if quantization.bnb_4bit_use_double_quant else "")


def _precision(recipe: Recipe) -> str:
    parts = [f"{recipe.model_dtype} model", f"{recipe.compute_dtype} products"]
    parts += [f"{recipe.adapter_dtype} adapters"] if recipe.lora else []
    parts += [f"{recipe.autocast} autocast"] if recipe.autocast else []
    parts += ["float32 residuals"] if recipe.kbit_preparation else []
    parts += ["float32 outputs kept"] if recipe.outputs_kept else []
    return ", ".join(parts)


def _loss(switches: Switches) -> str:
    if switches.unsloth:
        in_rows = "in chunks" if switches.unsloth.several_chunks else "in one chunk"
        return f"Unsloth's, {'in tiles' if switches.unsloth.tiled_loss else in_rows}"
    kernels = [part.name for part in fields(LigerPatches) if getattr(switches.liger, part.name)]
    head, fused = switches.liger_head, switches.loss == "liger"
    marks = ["casts"] * (fused and head.casts) + ["adds in place"] * (fused and head.adds_in_place)
    of_its_own = {"rope", "rms_norm", "swiglu"} <= set(kernels) and (fused or "cross_entropy" in kernels)
    said = ["with Liger's kernels"] if of_its_own else [f"with Liger's {' and '.join(kernels)}"] if kernels else []
    return ", ".join([" ".join([switches.loss, *said]), *marks])


def _attention(layers: Iterable[LayerSwitches]) -> str:
    return _joined(" ".join((layer.kernel, *_marks(layer))) for layer in layers)


def _marks(layer: LayerSwitches) -> Iterator[str]:
    marks = ["masked", "expands", "softcap", "windowed", "dropout", "splits_keys"]
    if layer.kernel == "mem_efficient":
        marks.append("wide_values")
    return (mark for mark in marks if getattr(layer, mark))


def _key_heads(layers: Iterable[LayerSwitches]) -> str:
    return _joined("one" if layer.one_group else "grouped" if layer.grouped else "each" for layer in layers)


def _checkpointing(switches: Switches) -> str:
    if switches.unsloth and switches.unsloth.offloads:
        return "inputs on the host"
    return "none" if not switches.checkpointing else "reentrant" if switches.reentrant else "on"


def _targets(targets: object) -> str:
    return ", ".join(sorted(targets)) if isinstance(targets, tuple | list) else str(targets)


def _copies(copies: Copies) -> str:
    if not copies.names:
        return "none"
    return f"{_joined(copies.names)}, {8 * copies.width} bit" + (", as one" if copies.tied else "")


def _further(lora: Lora) -> str:
    without = f", but {_targets(lora.exclude_modules)}" if lora.exclude_modules else ""
    parameters = f", parameters {_targets(lora.target_parameters)}" if lora.target_parameters else ""
    return parameters + without + (", in some layers" if lora.layers_to_transform is not None else "")


def _rows(switches: Switches) -> str:
    if not switches.trains_tokens:
        return ""
    return ", rows of the embedding" + (" that is the head" if switches.merges_head else "")


def _whole(lora: Lora | None) -> str:
    rows = ", rows of the embedding" if lora and lora.trainable_token_indices else ""
    if lora is None or not lora.modules_to_save:
        return f"none{rows}"
    tied = ", tied ones as one" if lora.ensure_weight_tying else ""
    cast = f", cast to {lora.modules_to_save_dtype}" if lora.modules_to_save_dtype else ""
    return _joined(lora.modules_to_save) + tied + cast + rows


def _adapted(decoder: Decoder, recipe: Recipe, switches: Switches) -> str:
    names = {name for layer in switches.layers for name in layer.adapters} | switches.outside.adapters
    every = {part.name for block in decoder.structure.blocks for part in linears(block)}
    return ("all" if names >= every else _joined(names)) + _where(decoder, recipe)


def _where(decoder: Decoder, recipe: Recipe) -> str:
    """Which layers have adapters, where not all of them have those that their like have."""
    split = by_adapters(decoder, recipe.lora)
    if split is decoder:
        return ""
    kinds = adapters_by_kind(split, recipe.lora)
    runs = [adapted for adapted, _ in groupby(bool(kinds[kind]) for kind in split.order)]
    if all(runs):
        return ", not the same in all layers"
    places = ["first"] * (not runs[0]) + ["between"] * (not all(runs[1:-1])) + ["last"] * (not runs[-1])
    return f", none in some layers: {', '.join(places)}"


def _fused(switches: Switches) -> str:
    return _joined({name for layer in switches.layers for name in layer.fused} | switches.outside.fused)


def _chunks(decoder: Decoder, switches: Switches) -> str:
    if not any(isinstance(block.attention, Mixer) and block.attention.scans for block in decoder.structure.blocks):
        return "no scan"
    return ("one" if switches.one_chunk else "several") + (", the last filled up" if switches.filled_up else "")


def _experts(decoder: Decoder, switches: Switches) -> str:
    if "E" not in decoder.sizes:
        return "none"
    return "one after another" if switches.loops_experts else "grouped products"


def _joined(words: Iterable[str]) -> str:
    return "; ".join(sorted(set(words))) or "none"


def unlike(one: Words, other: Words) -> Iterator[str]:
    """Names of the switches in which two runs differ."""
    return (name for name, value in one.items() if other.get(name) != value)
