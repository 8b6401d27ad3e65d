"""Memory that a kernel takes while it runs and gives back: no saved tensor, no gradient.

b sequences   s tokens in each   H heads   d head_dim   N, K rows and columns of a weight   M tokens
"""

from planner.units import ceil_div

# bitsandbytes 0.50 nn/modules.py and functional.py: 4-bit absmax blocks of 64 values, double quantized by 256.
ABSMAX_BLOCK = 64
_MOST_SPLITS = 200
# kMaxK, the widest head of each of the mem-efficient kernels; above 128 none keeps a head in registers.
_NARROW, _MIDDLE, WIDEST_IN_REGISTERS, _ANY_WIDTH = 64, 96, 128, 65536
# Elements of which a row of the same kernel's mask is a multiple (aten/src/ATen/native/transformers/attention.cpp,
# preprocess_mask: mem_eff_alignment).
MASK_ROW_ELEMENTS = 8
_DIRECT_EMBEDDING_TOKENS = 3072
# flash: queries in a block; keys in one, for heads up to a width; parts of the keys at most; how busy is enough.
_FLASH_QUERIES = 64
_FLASH_KEYS, _FLASH_KEYS_OF_WIDE_HEADS = ((64, 256), (128, 128)), 64
_MOST_FLASH_SPLITS = 128
_BUSY_ENOUGH = 0.85
_MOST_MULTIPROCESSORS = 256  # no card has as many


def flash_dq_elements(b: int, s: int, heads: int, head_dim: int) -> int:
    """float32 accumulator of dq: rows padded to 128, heads to 32 columns (64 above head_dim 128).

    Source: torch 2.13 aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp, mha_bwd, dq_accum.
    """
    return b * ceil_div(s, 128) * 128 * heads * flash_columns(head_dim)


def flash_lse_elements(b: int, s: int, heads: int) -> int:
    """float32 softmax_d of the same kernel: one number per head and padded row."""
    return b * heads * ceil_div(s, 128) * 128


def flash_row_dq_elements(b: int, kept: int, heads: int, head_dim: int) -> int:
    """The same where b sequences of `kept` tokens in all lie in one row: 128 rows more for each sequence.

    Source: the same file, mha_varlen_bwd, dq_accum.
    """
    return (kept + 128 * b) * heads * flash_columns(head_dim)


def flash_row_lse_elements(b: int, kept: int, heads: int) -> int:
    """softmax_d of mha_varlen_bwd."""
    return heads * (kept + 128 * b)


def flash_splits(b: int, s: int, heads: int, head_dim: int, multiprocessors: int) -> int:
    """Parts that flash's forward cuts the keys in, each summed up apart in float32, where there are few queries.

    Source: torch 2.14 aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp, set_params_splitkv and
    num_splits_heuristic: the fewest parts that keep the card 85 % as busy as any number of them. Two blocks run on a
    multiprocessor; a block takes 64 queries, and 256, 128 or 64 keys by the width of a head.
    """
    blocks, at_once = b * heads * ceil_div(s, _FLASH_QUERIES), 2 * multiprocessors
    if 5 * blocks >= 4 * at_once:
        return 1
    keys = ceil_div(s, next((keys for widest, keys in _FLASH_KEYS if head_dim <= widest), _FLASH_KEYS_OF_WIDE_HEADS))
    busy = {
        parts: blocks * parts / at_once / ceil_div(blocks * parts, at_once)
        for parts in range(1, min(_MOST_FLASH_SPLITS, at_once, keys) + 1)
        if parts == 1 or ceil_div(keys, parts) != ceil_div(keys, parts - 1)
    }
    most = max(busy.values())
    return next(parts for parts, share in busy.items() if share >= _BUSY_ENOUGH * most)


def flash_may_split(b: int, s: int, heads: int) -> bool:
    """Whether there are so few queries that some card cuts their keys."""
    return b * heads * ceil_div(s, _FLASH_QUERIES) < 2 * _MOST_MULTIPROCESSORS


def flash_columns(head_dim: int) -> int:
    """Columns of a head in float32 accumulators."""
    step = 32 if head_dim <= 128 else 64
    return ceil_div(head_dim, step) * step


def efficient_lse_elements(b: int, s: int, heads: int) -> int:
    """float32 log-sum-exp of the mem-efficient kernel, saved for its backward: rows padded to 32.

    Source: torch 2.13 aten/src/ATen/native/transformers/cuda/attention.cu, _efficient_attention_forward (kAlignLSE).
    """
    return b * heads * ceil_div(s, 32) * 32


def efficient_workspace_elements(b: int, s: int, heads: int, head_dim: int, capability: tuple[int, int] | None) -> int:
    """float32 workspace of the mem-efficient backward in 16 bit: dq in tiles, each with a header of four words; dk and
    dv, too, for every split of the keys, where the kernel does not keep them in registers.

    Source: torch 2.14 include/ATen/native/transformers/cuda/mem_eff_attention/kernel_backward.h, workspace_elements_gk,
    _gv, _gq, GradQTempStorage and kOutputInRF; attention_backward.cu for the splits: one for each tile of keys, and at
    most 200 for all heads of all sequences.
    """
    rows, columns, widest = _efficient_kernel(head_dim, capability)
    tiles = ceil_div(s, rows) * ceil_div(head_dim, columns) * (rows * columns + 4)
    if widest <= rows:
        return b * heads * tiles
    splits = max(1, min(ceil_div(s, columns), _MOST_SPLITS // (b * heads)))
    keys = splits * columns * ceil_div(head_dim, rows) * rows
    return b * heads * (2 * keys + tiles)


def efficient_float32_elements(b: int, s: int, heads: int, head_dim: int, capability: tuple[int, int] | None) -> int:
    """The same in float32: dq alone, as the kernel writes dk and dv where they are to be (kNeedsAccumGradK)."""
    large = (capability or (8, 0)) >= (8, 0) and not _has_small_shared_memory(capability)
    rows = 128 if head_dim > _NARROW and large else 64
    return b * heads * ceil_div(s, rows) * ceil_div(head_dim, _NARROW) * (rows * _NARROW + 4)


def _efficient_kernel(head_dim: int, capability: tuple[int, int] | None) -> tuple[int, int, int]:
    """Rows of queries and of keys in one tile, and the widest head, of the first kernel that takes this one.

    Source: mem_eff_attention/kernels/cutlassB.h, in its order; a kernel that wants more shared memory than the card has
    is passed over (99 KiB on 8.6, 8.9 and 12.x, where 128 x 128 tiles do not fit).
    """
    capability = capability or (8, 0)
    if head_dim <= _NARROW:
        return 64, 64, _NARROW
    if head_dim > WIDEST_IN_REGISTERS:
        return 128, 64, _ANY_WIDTH
    if capability < (8, 0):
        return 128, 64, WIDEST_IN_REGISTERS
    if head_dim <= _MIDDLE:
        return 128, 64, _MIDDLE
    small = _has_small_shared_memory(capability)
    return (64, 64, WIDEST_IN_REGISTERS) if small else (128, 128, WIDEST_IN_REGISTERS)


def _has_small_shared_memory(capability: tuple[int, int] | None) -> bool:
    """Whether a multiprocessor has 99 KiB of it for one block."""
    return capability is not None and (capability in {(8, 6), (8, 9)} or capability >= (12, 0))


def embedding_partial_rows(tokens: int, words: int) -> int:
    """Rows of float32 sums from which an embedding's gradient is made: one for each ten tokens of a word, at most.

    Up to 3072 tokens it is written directly. Source: torch 2.13 aten/src/ATen/native/cuda/Embedding.cu,
    embedding_dense_backward_cuda, and EmbeddingBackwardKernel.cu, NROWS_PER_THREAD and max_partial_segment.
    """
    return tokens // 10 + min(tokens, words) if tokens > _DIRECT_EMBEDDING_TOKENS else 0


def embedding_indices(tokens: int, words: int) -> int:
    """int64 numbers beside those rows: sorted and original places, where words begin, how many parts each has."""
    rows = embedding_partial_rows(tokens, words)
    return 3 * tokens + 2 * min(tokens, words) + rows if rows else 0


def expanded_four_bit_bytes(rows: int, columns: int, element_bytes: int, double_quant: bool) -> int:
    """What a 4-bit product without the fused kernel holds beside its output: `e·N·K + 2·4·N·K/64`.

    The weight in the compute dtype and, under double quantization, absmax and absmax + offset in float32.
    Source: bitsandbytes 0.50 backends/cuda/ops.py, _dequant_linear_fallback.
    """
    absmax = 2 * 4 * ceil_div(rows * columns, ABSMAX_BLOCK) if double_quant else 0
    return element_bytes * rows * columns + absmax
