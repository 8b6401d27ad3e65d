"""What decides Unsloth's step beside the recipe: which inputs are offloaded, how its cross entropy cuts the logits.

Source: unsloth_zoo 2026.10.9 gradient_checkpointing.py (UnslothCheckpointFunction), fused_losses/fused_linear.py
(fused_linear_rows, _tiled_layout, _flash_min_rows, _ce_impl).
"""

from planner.families.parts import Decoder
from planner.gpu import Gpu
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.step.switches import Unsloth
from planner.units import GIB, MIB, ceil_div

# Inputs of a layer of this size and less stay on the card (MINIMUM_SIZE).
LEAST_OFFLOADED_BYTES = 2 * MIB
# Cards of this size and less always go through the vocabulary in tiles; larger ones from so many scored tokens on.
SMALL_CARD_BYTES = int(24.5 * GIB)
_TILED_FROM_ROWS = 4096
_MOST_ROWS = 4096
_TILE_COLUMNS = 16_384
# Fewer rows of logits than this starve a product whose inner dimension is the vocabulary.
_FEWEST_ROWS, _FEWEST_LOGITS = 512, 512 * 151_936
_BUDGET_BYTES, _LOGIT_BYTES = 2 * GIB, 4


def unsloth_switches(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> Unsloth:
    """The questions of its code, answered."""
    wide = ceil_div(decoder.sizes["V"], _TILE_COLUMNS) > 2
    recent = (gpu.compute_capability or (8, 0)) >= (8, 0)
    scored = recipe.kept - recipe.batch
    return Unsloth(
        offloads=offloads(recipe, decoder.sizes["h"]),
        several_chunks=scored > _chunk_rows(scored, decoder.sizes["V"], decoder.sizes["h"]),
        tiled_loss=wide and recent and (small_card(gpu) or scored >= _TILED_FROM_ROWS),
    )


def offloads(recipe: Recipe, hidden: int) -> bool:
    """Whether a layer's input is large enough to wait on the host."""
    wanted = recipe.training.gradient_checkpointing == "unsloth"
    return wanted and input_bytes(recipe, hidden) > LEAST_OFFLOADED_BYTES


def input_bytes(recipe: Recipe, hidden: int) -> int:
    """One layer's input. Sequences lie behind one another, so that there is no padding."""
    return recipe.kept * hidden * DTYPE_BYTES[recipe.model_dtype]


def small_card(gpu: Gpu) -> bool:
    """Whether Unsloth takes it for one that has no memory to spare for logits."""
    return gpu.usable_bytes <= SMALL_CARD_BYTES


def row_numbers(recipe: Recipe) -> dict[str, int]:
    """Tokens of a micro-batch: its sequences lie behind one another, without padding."""
    tokens, steps = recipe.kept, recipe.steps_of_generation
    return {"T": tokens, "batch": tokens * steps, "micro-batches": steps}


def unsloth_numbers(scored: int, vocabulary: int, hidden: int) -> dict[str, int]:
    """Rows of a chunk of logits, or of a tile, and its columns; for each of them, the parts of its statistics."""
    rows = _chunk_rows(scored, vocabulary, hidden)
    return {
        "chunk rows": rows,
        "next chunk rows": min(rows, scored - rows),
        "tile rows of logits": min(_MOST_ROWS, scored),
        "tile columns": min(_TILE_COLUMNS, vocabulary),
        "V8": ceil_div(vocabulary, 8) * 8,
        "parts of V": ceil_div(vocabulary, _TILE_COLUMNS),
        "row parts": _row_parts(vocabulary),
    }


def _row_parts(vocabulary: int) -> int:
    """A chunk's statistics are taken of a row at once where that has two parts or one."""
    parts = ceil_div(vocabulary, _TILE_COLUMNS)
    return parts if parts > 2 else 0  # run_split, where splits > 2


def _chunk_rows(scored: int, vocabulary: int, hidden: int) -> int:
    """A power of two whose logits weigh about as much as the hidden states, within bounds."""
    fewest = min(max(_power_of_two(_FEWEST_LOGITS // vocabulary), _FEWEST_ROWS), _MOST_ROWS)
    rows = min(max(_power_of_two(scored * hidden // vocabulary), fewest), _MOST_ROWS)
    return max(1, min(rows, max(_BUDGET_BYTES // (vocabulary * _LOGIT_BYTES), 2), scored))


def _power_of_two(number: int) -> int:
    """The largest that is not above `number`; 1 where none is."""
    return 1 << max(0, number.bit_length() - 1)
