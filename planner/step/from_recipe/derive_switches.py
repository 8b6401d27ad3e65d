"""From a recipe and a card to switches: which tensors a step makes."""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from planner.families.census import census_of
from planner.families.parts import (
    Attention,
    Block,
    Decoder,
    Latent,
    Linear,
)
from planner.gpu import Gpu
from planner.memory import workspace
from planner.memory.fused import MOST_FUSED_TOKENS, fused_four_bit
from planner.request.lora import Lora
from planner.request.parallel import DeepSpeed
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.request.unsloth import UNSLOTH
from planner.step import liger_models
from planner.step.attention.kernel_choice import Asked, attention_kernel
from planner.step.attention.rotary import CONCATENATED
from planner.step.engine.offloading import LEAST_BYTES
from planner.step.from_recipe.adapted_layers import Ranks, adapters_by_kind, own_ranks, scaled_inputs
from planner.step.from_recipe.copied_modules import copies_of
from planner.step.from_recipe.derive_numbers import CHUNK, key_splits, numbers_of
from planner.step.from_recipe.dtype_widths import products_dtype, width_of
from planner.step.from_recipe.linears import linears, trained_biases
from planner.step.losses.loss_choice import liger_head, liger_kernels, loss_that_runs, merges_head
from planner.step.passes import passes_of
from planner.step.switches import LayerSwitches, Outside, Storage, Switches, Unsloth
from planner.step.unsloth_numbers import unsloth_switches
from planner.tensors.targets import adapted_weights

# Of what is saved outside the layers.
_TELL_THE_SMALL = ("T", "T+b", "N", "b", "s", "s-1", "pairs", "h", "V")


class _OfLayer(NamedTuple):
    """What the micro-batch and the length decide of one kind of layer."""

    windowed: bool
    splits_keys: bool
    uneven_rows: bool
    fused: frozenset[str]


class _BySize(NamedTuple):
    """All that the micro-batch and the length decide beside numbers; they decide it alike for most of them."""

    layers: tuple[_OfLayer, ...]
    outside_fused: frozenset[str]
    one_sequence: bool
    one_chunk: bool
    filled_up: bool
    unsloth: Unsloth | None
    offloads: tuple[tuple[str, int], ...] | None


@lru_cache(maxsize=256)
def switches_of(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> Switches:
    """Everything about the run that is not a number."""
    return _switches(decoder, recipe.of_any_size, gpu, _by_size(decoder, recipe, gpu))


def _by_size(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> _BySize:
    chunk, parts = decoder.sizes.get("chunk", CHUNK), _parts(decoder)
    inputs = decoder.structure.layer_inputs
    return _BySize(
        layers=tuple(_of_layer(kind, recipe, gpu) for kind in parts),
        outside_fused=_fused([_shape(inputs.projection, decoder.sizes)] if inputs else (), recipe, gpu),
        one_sequence=recipe.batch == 1,
        one_chunk=recipe.length <= chunk,
        filled_up=recipe.length % chunk > 0,
        unsloth=unsloth_switches(decoder, recipe, gpu) if recipe.stack_name == UNSLOTH else None,
        offloads=_small(numbers_of(decoder, recipe, gpu)[0]) if recipe.offloads else None,
    )


def _small(numbers: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """The dimensions that decide which saved tensors are too small to be offloaded; above the bound, all are alike."""
    return tuple((name, min(numbers[name], LEAST_BYTES)) for name in _TELL_THE_SMALL)


# Name, outputs and inputs of a projection.
_Shape = tuple[str, int, int]


class _Parts(NamedTuple):
    """One kind of layer: its projections, its window where it has one, and its numbers."""

    shapes: tuple[_Shape, ...]
    window: int | None
    sizes: Mapping[str, int]


@lru_cache(maxsize=256)
def _parts(decoder: Decoder) -> tuple[_Parts, ...]:
    return tuple(
        _Parts(
            tuple(_shape(part, sizes) for part in linears(block)),
            sizes["window"] if block.attention is not None and block.attention.window else None,
            sizes,
        )
        for block, sizes in zip(decoder.structure.blocks, _all_sizes(decoder), strict=True)
    )


def _shape(part: Linear, sizes: Mapping[str, int]) -> _Shape:
    return part.name, sizes[part.out], sizes[part.in_]


def _of_layer(kind: _Parts, recipe: Recipe, gpu: Gpu) -> _OfLayer:
    windowed = kind.window is not None and recipe.length >= kind.window
    splits = key_splits(kind.sizes, recipe, gpu) > 1
    uneven = recipe.length % workspace.MASK_ROW_ELEMENTS > 0
    return _OfLayer(windowed, splits, uneven, _fused(kind.shapes, recipe, gpu))


def _fused(shapes: Iterable[_Shape], recipe: Recipe, gpu: Gpu) -> frozenset[str]:
    if recipe.tokens > MOST_FUSED_TOKENS:
        return frozenset()
    return frozenset(
        name for name, out, in_ in shapes if fused_four_bit(recipe.tokens, out, in_, recipe.compute_dtype, gpu)
    )


@lru_cache(maxsize=512)
def _switches(decoder: Decoder, recipe: Recipe, gpu: Gpu, by_size: _BySize) -> Switches:
    """`recipe` is of any size."""
    adapted = _adapted(decoder, recipe.lora) if recipe.lora else frozenset()
    adapters = adapters_by_kind(decoder, recipe.lora)
    model = width_of(recipe.model_dtype, recipe)
    copies = copies_of(decoder, recipe)
    training = recipe.training
    return Switches(
        layers=tuple(
            _layer(block, sizes, _asked(decoder, block, sizes, recipe, gpu, own), own, ranks)
            for block, sizes, own, ranks in zip(
                decoder.structure.blocks, _all_sizes(decoder), by_size.layers, adapters, strict=True
            )
        ),
        storage=_storage(recipe),
        double_quant=bool(recipe.quantization and recipe.quantization.bnb_4bit_use_double_quant),
        float16=products_dtype(recipe) == "float16",
        model=model,
        residual=4 if recipe.kbit_preparation else model,
        compute=width_of(recipe.compute_dtype, recipe),
        expanded=model,
        autocast=DTYPE_BYTES[recipe.autocast] if recipe.autocast else 0,
        adapter=width_of(recipe.adapter_dtype, recipe),
        has_adapters=recipe.lora is not None,
        trains_base=recipe.method == "full",
        dropout=recipe.dropout,
        dora=bool(recipe.lora and recipe.lora.use_dora),
        checkpointing=bool(training.gradient_checkpointing),
        reentrant=training.use_reentrant,
        loss=loss_that_runs(decoder, recipe),
        liger=liger_kernels(decoder, recipe),
        liger_in_place=decoder.model_type not in liger_models.NORMS_BESIDE,
        liger_head_norms=decoder.model_type not in liger_models.LEAVES_HEAD_NORMS,
        liger_rotary=decoder.model_type not in liger_models.LEAVES_ROTARY,
        outputs_kept=recipe.outputs_kept,
        accumulates=recipe.accumulates,
        collated=recipe.collated,
        objective=recipe.objective,
        passes=passes_of(recipe),
        one_sequence=by_size.one_sequence,
        padded=training.padded,
        packed=training.packing,
        noisy=training.neftune_noise_alpha is not None,
        outside=_outside(decoder, by_size.outside_fused, adapted),
        copies=copies,
        biases=trained_biases(decoder, recipe.lora),
        trains_tokens=bool(recipe.lora and recipe.lora.trainable_token_indices),
        merges_head=merges_head(decoder, recipe),
        ranks=own_ranks(decoder, recipe.lora) if recipe.lora else frozenset(),
        peft_type=recipe.lora.peft_type if recipe.lora else "LORA",
        scaled_inputs=scaled_inputs(decoder, recipe.lora),
        liger_head=liger_head(recipe, copies, gpu.compute_capability),
        one_chunk=by_size.one_chunk,
        filled_up=by_size.filled_up,
        unsloth=by_size.unsloth,
        offloads=by_size.offloads,
        keeps_inputs=isinstance(recipe.strategy, DeepSpeed) and recipe.strategy.stage == 3,
        sequence_by=recipe.layout.sequence_by,
        sequence_parts=recipe.layout.sequence_parts,
        gathers_parts=recipe.layout.gathers_parts,
        qat_group=training.qat.group_size if training.qat else 0,
        loops_experts=gpu.compute_capability is not None and gpu.compute_capability < (8, 0),
    )




def _outside(decoder: Decoder, fused: frozenset[str], adapted: frozenset[str]) -> Outside:
    """Projections that belong to no layer."""
    inputs = decoder.structure.layer_inputs
    return Outside(frozenset({inputs.projection.name}) & adapted, fused) if inputs else Outside()


def _storage(recipe: Recipe) -> Storage | None:
    if recipe.quantization is None:
        return None
    kinds: dict[str, Storage] = {"hqq": "hqq", "awq": "packed", "gptq": "packed", "fp8": "fp8"}
    if recipe.quantization.quant_method in kinds:
        return kinds[recipe.quantization.quant_method]
    return "int8" if recipe.quantization.load_in_8bit else "4bit"


def _all_sizes(decoder: Decoder) -> Iterator[dict[str, int]]:
    """The numbers of each kind of layer, the model's own among them."""
    return ({**decoder.sizes, **sizes} for sizes in decoder.kind_sizes)


def _asked(  # noqa: PLR0913, PLR0917 (all of them decide it)
    decoder: Decoder, block: Block, sizes: Mapping[str, int], recipe: Recipe, gpu: Gpu, own: _OfLayer
) -> Asked:
    """What decides the attention kernel of one kind of layer."""
    attention = block.attention
    latent = isinstance(attention, Latent)
    # OPT's mask is not told positions, so that packed documents see each other (modeling_opt.py, OPTDecoder.forward).
    packed = recipe.training.packing and not decoder.structure.positions_each
    return Asked(
        implementation=recipe.training.attn_implementation or decoder.default_attention,
        pinned=recipe.training.sdpa_kernel,
        dtype=recipe.autocast or ("float32" if recipe.kbit_preparation else recipe.model_dtype),
        head_dim=sizes["q"] // sizes["H"] if latent else sizes.get("d", 1),
        value_dim=_value_width(block, sizes),
        equal_widths=not latent or sizes["q"] == sizes["v"],
        grouped=sizes.get("K", 1) != sizes.get("H", 1),
        masked=recipe.training.padded or packed or own.windowed,
        always_masked=(isinstance(attention, Attention) and attention.always_masked)
        or (isinstance(attention, Latent) and attention.indexer is not None),
        gpu=gpu,
    )


def _layer(block: Block, sizes: Mapping[str, int], asked: Asked, own: _OfLayer, ranks: Ranks) -> LayerSwitches:
    kernel = attention_kernel(asked)
    return LayerSwitches(
        kernel=kernel.name,
        masked=kernel.masked,
        grouped=asked.grouped,
        one_group=sizes.get("K") == 1,
        expands=kernel.expands,
        softcap=block.attention is not None and block.attention.softcap,
        windowed=block.attention is not None and block.attention.window,
        by_head=isinstance(block.attention, Latent) or _concatenates(block),
        splits_keys=kernel.name in {"flash", "flash_attention_2"} and own.splits_keys,
        wide_values=_value_width(block, sizes) > workspace.WIDEST_IN_REGISTERS,
        pads_mask=kernel.name == "mem_efficient" and kernel.masked and own.uneven_rows,
        dropout=isinstance(block.attention, Attention) and block.attention.dropout,
        adapters=frozenset(part.name for part in linears(block) if part.name in ranks),
        fused=own.fused,
    )


def _value_width(block: Block, sizes: Mapping[str, int]) -> int:
    """Columns of one head's values."""
    return sizes["v"] // sizes["H"] if isinstance(block.attention, Latent) else sizes.get("d", 1)


def _concatenates(block: Block) -> bool:
    attention = block.attention
    return isinstance(attention, Attention) and (attention.rotary == "halves" or attention.rotary in CONCATENATED)


@lru_cache(maxsize=2048)
def _adapted(decoder: Decoder, lora: Lora) -> frozenset[str]:
    """Module paths that carry an adapter; a router's `gate.weight` goes by its module's name like any other."""
    weights = adapted_weights(census_of(decoder), decoder.model_type, lora)
    return frozenset(weight.name.removesuffix(".weight") for weight in weights)
