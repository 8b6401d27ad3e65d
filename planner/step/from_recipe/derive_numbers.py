"""From a recipe and a card to numbers: how large each dimension is."""

from collections.abc import Mapping

from planner.families.parts import Decoder
from planner.gpu import Gpu, multiprocessors
from planner.memory import logits, workspace
from planner.request.recipe import Recipe
from planner.request.unsloth import UNSLOTH
from planner.step import liger_models
from planner.step.from_recipe.adapted_layers import Ranks, adapters_by_kind, own_ranks, regularized_matrices
from planner.step.row_sums import row_sums, sums_rows
from planner.step.switches import TRAINED_ROWS, angles_of, block_of, rank_dim, rotated_blocks
from planner.step.unsloth_numbers import row_numbers, unsloth_numbers
from planner.tensors.peft_methods import above_diagonal, oft_block
from planner.units import allocated, ceil_div

# Tokens in a chunk of the gated delta rule (modeling_qwen3_5.py, torch_chunk_gated_delta_rule); Mamba says its own.
CHUNK = 64
_ID_BYTES = 8


def numbers_of(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> tuple[dict[str, int], ...]:
    """The value of every dimension, per kind of layer, on this card."""
    kinds = zip(decoder.kind_sizes, adapters_by_kind(decoder, recipe.lora), strict=True)
    tables = (_numbers({**decoder.sizes, **sizes}, decoder, recipe, gpu, ranks) for sizes, ranks in kinds)
    own = row_numbers(recipe) if recipe.stack_name == UNSLOTH else {}
    return tuple(table | own for table in tables)


def _numbers(
    sizes: Mapping[str, int], decoder: Decoder, recipe: Recipe, gpu: Gpu, ranks: Ranks
) -> dict[str, int]:
    batch, length, kept, scored = recipe.batch, recipe.length, recipe.kept, _scored(recipe)
    pairs = recipe.training.per_device_train_batch_size
    heads, head_dim = sizes.get("H", 1), sizes.get("d", 1)
    return {
        **sizes,
        "b": batch, "s": length, "s-1": length - 1, "pairs": pairs,
        "chosen copied": pairs * (length - 1) if pairs > 1 else 0,
        "s padded": ceil_div(length, workspace.MASK_ROW_ELEMENTS) * workspace.MASK_ROW_ELEMENTS,
        "s+1": length + 1, "T": batch * length, "T+b": batch * (length + 1),
        "batch": _tokens_of_batches(recipe),
        "generated": (generated := batch * recipe.steps_of_generation), "completions": generated * recipe.completion,
        "desirable": allocated(batch) * recipe.steps_of_generation,
        TRAINED_ROWS: len(recipe.lora.trainable_token_indices or ()) if recipe.lora else 0,
        "r": recipe.lora.r if recipe.lora else 1,
        **({rank_dim(name): ranks.get(name, 1) for name in own_ranks(decoder, recipe.lora)} if recipe.lora else {}),
        "flash dq": workspace.flash_dq_elements(batch, length, heads, head_dim),
        **_chunked(sizes, batch, length),
        "parts": recipe.layout.sequence_parts,
        "none": 0, "index top": min(sizes.get("index topk", 0), length), "rotated": sizes.get("rot", head_dim),
        "q rest": sizes.get("q", 0) - sizes.get("q rot", 0), "k rest": sizes.get("k", 0) - sizes.get("k rot", 0),
        **unsloth_numbers(scored, sizes["V"], sizes["h"]),
        **logits.fused_sizes(
            scored, batch * length, sizes["V"], sizes["h"],
            liger_states=liger_models.STATES_OF_A_CHUNK.get(decoder.model_type, 1),
        ),
        "efficient lse": workspace.efficient_lse_elements(batch, length, heads),
        "efficient work": workspace.efficient_workspace_elements(
            batch, length, heads, head_dim, gpu.compute_capability
        ),
        "efficient float32 work": workspace.efficient_float32_elements(
            batch, length, heads, head_dim, gpu.compute_capability
        ),
        "multiprocessors": multiprocessors(gpu),
        "cudnn work": batch * length * (sizes.get("q", 0) + heads),
        **regularized_matrices(decoder, recipe.lora),
        **(_rotations(sizes, recipe.lora.oft_block_size) if recipe.lora and recipe.lora.peft_type == "OFT" else {}),
        **(row_sums(sizes, recipe, gpu) if sums_rows(recipe) else {}),
        "flash lse": workspace.flash_lse_elements(batch, length, heads),
        "splits": (splits := key_splits(sizes, recipe, gpu)),
        "splits of d": splits * workspace.flash_columns(head_dim),
        "kept": kept,
        **_embedding_rows(sizes, batch * length),
        "flash row dq": workspace.flash_row_dq_elements(rows := _rows(recipe), kept, heads, head_dim),
        "flash row lse": workspace.flash_row_lse_elements(rows, kept, heads),
    }  # fmt: skip


def _rotations(sizes: Mapping[str, int], asked: int) -> dict[str, int]:
    """OFT's blocks of every width."""
    found = {}
    for width, columns in sizes.items():
        if columns > 0:
            block = oft_block(columns, asked)
            found[rotated_blocks(width)], found[block_of(width)] = columns // block, block
            found[angles_of(width)] = above_diagonal(block)
    return found


def key_splits(sizes: Mapping[str, int], recipe: Recipe, gpu: Gpu) -> int:
    """Parts that flash cuts the keys in."""
    return workspace.flash_splits(
        recipe.batch, recipe.length, sizes.get("H", 1), sizes.get("d", 1), multiprocessors(gpu)
    )


def _rows(recipe: Recipe) -> int:
    """What lies one after another where a batch is one row: sequences without their padding, or documents."""
    return recipe.documents if recipe.training.packing else recipe.batch


def _tokens_of_batches(recipe: Recipe) -> int:
    """Tokens of all micro-batches that lie on the card together: a tensor each, of 8 bytes a token in whole granules.

    What GRPO generated is one tensor.
    """
    steps = recipe.steps_of_generation
    if steps == 1 or recipe.objective == "grpo":
        return recipe.tokens * steps
    return steps * allocated(_ID_BYTES * recipe.tokens) // _ID_BYTES


def _scored(recipe: Recipe) -> int:
    """The tokens that are scored: of each sequence all but the first, of GRPO's the completion; one at least."""
    return max(1, recipe.completion * recipe.batch if recipe.objective == "grpo" else recipe.kept - recipe.batch)


def _embedding_rows(sizes: Mapping[str, int], tokens: int) -> dict[str, int]:
    """Of the embedding, and of Gemma 4's second one."""
    found = {}
    for rows, words in (("embedding rows", sizes["V"]), ("input rows", sizes.get("V of inputs", 0))):
        found[rows] = workspace.embedding_partial_rows(tokens, words)
        found[f"{rows}' indices"] = workspace.embedding_indices(tokens, words)
    return found


def _chunked(sizes: Mapping[str, int], batch: int, length: int) -> dict[str, int]:
    """The chunks of linear attention and of state-space layers."""
    chunk = sizes.get("chunk", CHUNK)
    count = ceil_div(length, chunk)
    padded = batch * count * chunk
    return {
        "chunk": chunk, "chunks": count, "chunks+1": count + 1, "earlier chunks": max(0, count - 2),
        "earlier chunks but one": max(0, count - 3), "second chunk": min(1, count - 1),
        "third chunk": min(1, max(0, count - 2)),
        "C": batch * chunk, "TC": padded, "TC where padded": padded if length % chunk else 0,
        "T conv": batch * (length + sizes.get("conv kernel", 1) - 1),
    }  # fmt: skip
