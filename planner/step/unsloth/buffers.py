"""What Unsloth keeps on the card from one step to the next, beside the model, and what waits on the host.

Source: unsloth 2026.10.9 kernels/utils.py (_scratch), models/llama.py (LlamaRotaryEmbedding); unsloth_zoo 2026.10.9
gradient_checkpointing.py (GPU_BUFFERS, GPU_BUFFERS_B, CPU_BUFFERS).
"""

from collections.abc import Collection

from planner.families.config import Fields
from planner.families.parts import Attention, Block, GatedMlp, Linear
from planner.ledger import Line
from planner.model.model import Model
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.request.unsloth import UNSLOTH
from planner.step.unsloth_numbers import input_bytes, offloads
from planner.tensors.targets import adapted_weights
from planner.units import KIB, allocated, ceil_div

ALIVE_IN = ("forward", "loss", "backward", "optimizer")
_SOURCE = "unsloth 2026.10.9"
# Rotary tables longer than this grow by steps of 8192 rows (_round_rope_size).
_BUILT_WHOLE_ROWS, _ROPE_STEP_ROWS = 4 * 8192, 8192
# While there is room (512 MiB), a second buffer takes the next layer's input as one is worked on.
_STAGING_BUFFERS = 2
# INITIAL_CPU_BUFFER_COUNT buffers of INITIAL_CPU_BUFFER_SIZE 16-bit numbers, pinned before the first step.
_HOST_BUFFERS, _HOST_BUFFER_BYTES = 200, 2 * 128 * KIB


def unsloth_lines(model: Model, recipe: Recipe) -> tuple[Line, ...]:
    """The buffers of its kernels, alive from the first step on."""
    if recipe.stack_name != UNSLOTH or model.decoder is None:
        return ()
    sizes = model.decoder.sizes
    return tuple(
        line
        for line in (
            _expanded(model, recipe),
            _rotary_tables(model, recipe),
            _staging(recipe, sizes["h"]),
            _pinned(recipe, sizes["h"], model.decoder.layers),
        )
        if line.bytes
    )


def _expanded(model: Model, recipe: Recipe) -> Line:
    """One buffer, as large as the largest weight that is expanded into it; dropout's path does without."""
    largest = 0
    if recipe.quantization and recipe.lora and model.decoder and not recipe.dropout:
        sizes, adapted = model.decoder.sizes, adapted_weights(model.census, model.model_type, recipe.lora)
        names = {weight.name.removesuffix(".weight") for weight in adapted}
        block = model.decoder.structure.blocks[0]
        groups = [group for group in _groups(block) if all(_runs_fused(part, block.prefix, names) for part in group)]
        largest = max((sizes[part.out] * sizes[part.in_] for group in groups for part in group), default=0)
    each = DTYPE_BYTES[recipe.compute_dtype]
    return Line(
        name="Unsloth's buffer for an expanded weight", bytes=allocated(each * largest), cause="workspace",
        alive_in=ALIVE_IN, formula="e × the largest weight of its LoRA functions", working=f"{each} × {largest:,}",
        source=f"{_SOURCE} kernels/utils.py, _scratch",
    )  # fmt: skip


def _groups(block: Block) -> tuple[tuple[Linear, ...], ...]:
    """The projections that one function runs, where each of them has an adapter."""
    attention, mlp = block.attention, block.mlp
    if not (isinstance(attention, Attention) and isinstance(mlp, GatedMlp)):
        return ()
    groups = ((attention.q, attention.k, attention.v), (attention.o,), (mlp.gate, mlp.up, mlp.down))
    return tuple(tuple(part for part in group if part) for group in groups)


def _runs_fused(part: Linear, prefix: str, adapted: Collection[str]) -> bool:
    return prefix + part.name in adapted and not part.bias


def _rotary_tables(model: Model, recipe: Recipe) -> Line:
    """cos and sin of every position that the model may have, or of as many as a row of sequences has tokens."""
    known = Fields(model.model_type, model.config).values.get("max_position_embeddings") or 0
    named = max(int(known), recipe.length)
    rows = max(named, recipe.kept)
    if rows > min(named, _BUILT_WHOLE_ROWS):
        rows = ceil_div(rows, _ROPE_STEP_ROWS) * _ROPE_STEP_ROWS
    # Gemma's are of float32, and made of frequencies that stay on the host (GemmaFixedRotaryEmbedding).
    wide = model.model_type == "gemma"
    each = DTYPE_BYTES["float32" if wide else recipe.model_dtype]
    width = model.decoder.sizes["d"] if model.decoder else 0
    frequencies = 0 if wide else 2 * width
    return Line(
        name="Unsloth's rotary tables", bytes=2 * allocated(each * rows * width) + allocated(frequencies),
        cause="workspace", alive_in=ALIVE_IN, formula="2·e·positions·d + 4·d/2",
        working=f"2 × {each} × {rows:,} × {width} + {frequencies:,}",
        source=f"{_SOURCE} models/llama.py, LlamaRotaryEmbedding._build_rope_cache",
    )  # fmt: skip


def _staging(recipe: Recipe, hidden: int) -> Line:
    """Where offloaded inputs come back to."""
    each = input_bytes(recipe, hidden) if offloads(recipe, hidden) else 0
    return Line(
        name="Unsloth's buffers for offloaded inputs", bytes=_STAGING_BUFFERS * allocated(each), cause="activations",
        alive_in=ALIVE_IN, formula="2 × 2·T·h", working=f"{_STAGING_BUFFERS} × {each:,}",
        source="unsloth_zoo 2026.10.9 gradient_checkpointing.py, GPU_BUFFERS and GPU_BUFFERS_B",
    )  # fmt: skip


def _pinned(recipe: Recipe, hidden: int, layers: int) -> Line:
    """Host memory: buffers for 200 layers from the start, and for each layer one of a power of two, once its input is
    known (in the first step the last layer's, too). torch's cache of pinned memory keeps those that were too small.
    """
    first = _HOST_BUFFERS * _HOST_BUFFER_BYTES if recipe.training.gradient_checkpointing == UNSLOTH else 0
    block = 1 << (input_bytes(recipe, hidden) - 1).bit_length() if offloads(recipe, hidden) else 0
    return Line(
        name="layers' inputs in pinned host memory", bytes=first + layers * block, cause="activations", alive_in=(),
        formula="200 × 256 KiB + L × 2·T·h, up to a power of two", working=f"{first:,} + {layers} × {block:,}",
        source="unsloth_zoo 2026.10.9 gradient_checkpointing.py, CPU_BUFFERS",
    )  # fmt: skip
