"""How large the pieces of a loss are: all logits at once, TRL's tiles, Liger's chunks.

    b sequences   s tokens in each   T = b s   V vocabulary   h hidden
"""

from planner.units import ceil_div

# trl 1.16 kernels/chunked_logprob.py TOKEN_CHUNK_SIZE and trainer/utils.py _CHUNKED_LOGPROB_CHUNK_SIZE.
TRL_TILE_TOKENS = 4096
TRL_TILE_WORDS = 32768


def full_logits_peak_bytes(tokens: int, vocabulary: int) -> int:
    """`12·T·V`: log-probabilities, the gradient coming in and the one going out, all float32.

    The largest moment of a cross entropy over all logits; transformers 5.23 loss/loss_utils.py ForCausalLMLoss.
    """
    return 12 * tokens * vocabulary


def trl_tile_elements(scored_tokens: int) -> int:
    """TRL's tile: at most 4096 tokens by 32768 words, allocated at full width even for a small vocabulary."""
    return min(scored_tokens, TRL_TILE_TOKENS) * TRL_TILE_WORDS


def liger_chunk_rows(tokens: int, vocabulary: int, hidden: int, states: int) -> int:
    """Liger's chunk: next power of two of `ceil(T / ceil(V / (c h)))`, at most T.

    `states`: c, of how many tensors of hidden states' size a chunk of logits may be (`chunk_mem_const`).

    Source: liger-kernel 0.8.5 ops/fused_linear_cross_entropy.py, fused_linear_cross_entropy_forward.
    """
    rows = ceil_div(tokens, ceil_div(vocabulary, states * hidden))
    return min(tokens, 1 << (rows - 1).bit_length())


def fused_sizes(scored: int, tokens: int, vocabulary: int, hidden: int, *, liger_states: int) -> dict[str, int]:
    """The dimensions that the fused losses are traced with, where `scored` of all `tokens` are scored.

    `liger_states`: see `liger_chunk_rows`.
    """
    rows = liger_chunk_rows(tokens, vocabulary, hidden, liger_states)
    return {
        "N": scored,
        "tile": trl_tile_elements(scored),
        "tile rows": min(scored, TRL_TILE_TOKENS),
        "tile words": min(vocabulary, TRL_TILE_WORDS),
        "liger rows": rows,
        "liger next rows": min(rows, tokens - rows),
    }
