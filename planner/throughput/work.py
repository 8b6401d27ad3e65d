"""The work of one micro-batch: floating-point operations of products, and bytes that pass through the card's memory.

Operations. A product of T tokens by an N x K weight takes 2TNK. It happens in the forward pass, once more where
checkpointing recomputes the layer, once for the input's gradient, and once for the weight's where that is trained.
Scores and their product with the values take 4 s^2 per head and width of a head, half of it where a kernel leaves out
what the causal mask hides; backward takes 2.5 times that where the kernel recomputes the scores (Dao,
FlashAttention-2, section 4.1), twice otherwise.

Bytes. Every tensor that the traced step makes is written once and read twice: by what comes next, and by its backward
pass or the sum that it joins. Every pass reads the weights as they are stored. The optimizer reads gradient, state and
weight and writes the latter two.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from planner.families.parts import Attention, Decoder, Latent
from planner.gpu import Gpu
from planner.ledger import Line
from planner.memory.adapters import COPIES
from planner.model.model import Model
from planner.request.dtypes import Dtype
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.step.engine.program import Program, played
from planner.step.from_recipe.copied_modules import copies_of
from planner.step.from_recipe.derive_switches import switches_of
from planner.step.lines import program_order_and_tables
from planner.step.switches import Kernel
from planner.tensors.inventory import TensorGroup

_TRANSFERS_OF_A_TENSOR = 3
# Kernels that skip what the causal mask hides, and compute the scores again in the backward pass.
_CAUSAL: frozenset[Kernel] = frozenset({"flash", "cudnn", "mem_efficient", "flash_attention_2"})


@dataclass(frozen=True, slots=True)
class Work:
    """Of one micro-batch of `tokens`, its part of the optimizer step included.

    `unusual` names parts of the model or of the run that no published run with a time had.
    """

    tokens: int
    flops: int
    moved_bytes: int
    unusual: tuple[str, ...] = ()


def work_of(model: Model, decoder: Decoder, recipe: Recipe, gpu: Gpu, lines: Iterable[Line]) -> Work:
    """Count the work of a micro-batch; `lines` are the plan's, of which weights and optimizer are read."""
    passes = _Passes.of(recipe)
    held, copies_bytes = Counter[str](), 0
    for line in lines:
        held[line.cause] += line.bytes
        copies_bytes += line.bytes if line.name == COPIES else 0
    flops = sum(_product_flops(group, decoder, passes) for group in model.census)
    if decoder.structure.tied:
        flops += 2 * decoder.sizes["V"] * decoder.sizes["h"] * passes.head
    flops += 2 * _elements(held["adapters"] - copies_bytes, recipe.adapter_dtype) * (passes.layer + 1)
    # Beside the frozen original's products, the gradient of each copied weight; an embedding has no product.
    embeds = copies_of(decoder, recipe).embedding
    embedded = decoder.sizes["V"] * decoder.sizes["h"] if embeds else 0
    flops += 2 * max(0, _elements(copies_bytes, recipe.copied_dtype) - embedded)
    attention = _attention_flops(decoder, recipe, gpu, passes)
    optimizer_bytes = 2 * held["optimizer"] + held["gradients"] + 2 * _trained_bytes(held, recipe)
    moved = _TRANSFERS_OF_A_TENSOR * made_bytes(decoder, recipe, gpu) + held["weights"] * passes.layer
    return Work(
        recipe.tokens,
        recipe.tokens * flops + attention,
        moved + optimizer_bytes // recipe.training.gradient_accumulation_steps,
        _unusual(decoder, recipe, gpu),
    )


def _unusual(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> tuple[str, ...]:
    kernels = {layer.kernel for layer in switches_of(decoder, recipe, gpu).layers}
    states = any(not isinstance(block.attention, Attention | None) for block in decoder.structure.blocks)
    parts = {
        "mixtures of experts": "E" in decoder.sizes,
        "layers of another kind than usual attention": states,
        "attention that writes its scores": not kernels <= _CAUSAL,
        "8-bit storage": bool(recipe.quantization and recipe.quantization.load_in_8bit),
        "DoRA": bool(recipe.lora and recipe.lora.use_dora),
        "adapters other than LoRA": bool(recipe.lora and recipe.lora.peft_type != "LORA"),
        "another objective than SFT": recipe.objective != "sft",
        "padding": recipe.training.padded,
        "an objective with a second forward": recipe.objective != "sft",
    }
    return tuple(part for part, here in parts.items() if here)


@dataclass(frozen=True, slots=True)
class _Passes:
    """How often a weight is multiplied by: in layers, outside them; how often a layer runs forward."""

    layer: int
    head: int
    forward: int

    @classmethod
    def of(cls, recipe: Recipe) -> "_Passes":
        forward = 2 if recipe.training.gradient_checkpointing else 1
        gradients = 2 if recipe.lora is None else 1
        return cls(forward + gradients, 1 + gradients, forward)


def _product_flops(group: TensorGroup, decoder: Decoder, passes: _Passes) -> int:
    """Of one token by all weights of `group`."""
    if group.role == "head":
        return 2 * group.params * passes.head
    if group.role in {"linear", "router"} and len(group.shape) > 1:
        return 2 * group.params * passes.layer
    if group.role == "expert" and group.params_each > decoder.sizes.get("E", 1) * max(group.shape):
        return 2 * group.params * passes.layer * decoder.sizes.get("top", 1) // decoder.sizes.get("E", 1)
    return 0


def _elements(held_bytes: int, dtype: Dtype) -> int:
    """Their product with one token takes twice as many operations; each pass of the layer, and one for the weight."""
    return held_bytes // DTYPE_BYTES[dtype]


def _trained_bytes(held: Counter[str], recipe: Recipe) -> int:
    return held["adapters"] if recipe.lora else held["weights"]


def _attention_flops(decoder: Decoder, recipe: Recipe, gpu: Gpu, passes: _Passes) -> int:
    total = 0
    layers = Counter(decoder.order)
    for kind, switches in enumerate(switches_of(decoder, recipe, gpu).layers[: len(decoder.kind_sizes)]):
        sizes = {**decoder.sizes, **decoder.kind_sizes[kind]}
        block = decoder.structure.blocks[kind]
        if not isinstance(block.attention, Attention | Latent):
            continue
        causal = switches.kernel in _CAUSAL
        seen = min(recipe.length, sizes.get("window", recipe.length)) if switches.windowed else recipe.length
        heads_width = sizes["H"] * (sizes["d"] + sizes.get("v", sizes["q"]) // sizes["H"])
        once = 2 * recipe.batch * recipe.length * seen * heads_width // (2 if causal else 1)
        total += layers[kind] * (once * passes.forward + once * (5 if causal else 4) // 2)
    return total


def made_bytes(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> int:
    """The sizes of all tensors that one micro-batch makes."""
    program, order, tables = program_order_and_tables(decoder, recipe, gpu)
    runs = Counter(played(program, tuple(order)))
    total = 0
    for index, count in runs.items():
        kind = program.segments[index].kind
        sizes = tables[-1 if kind is None else kind]
        total += count * sum(sizes[key] * births for key, births in _births(program)[index])
    return total


@lru_cache(maxsize=64)
def _births(program: Program) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Of each segment, the keys that it allocates and how often."""
    return tuple(tuple(Counter(move for move in each.moves if move >= 0).items()) for each in program.segments)
