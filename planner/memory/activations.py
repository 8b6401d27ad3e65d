"""What one Llama-type layer keeps for its backward, in closed form: the pencil's check on planner/timeline.

    T tokens   h hidden   I MLP inner width   q = H·d   k = K·d   H query heads   r rank

Bytes per token and layer with flash attention and LoRA on all seven projections, no dropout. The trace in
planner/step arrives at the same numbers tensor by tensor (tests/planner/step/test_activations.py).
Known limits: other wirings, kernels, losses and targets are the trace's business.
"""

HALF = 2
FLOAT = 4


def norms_saved_bytes(h: int) -> int:
    """`2 (4h + 4 + 2h)`: two RMSNorms, each a float32 copy, one float32 per token, and its 16-bit output.

    Source: transformers 5.23 models/llama/modeling_llama.py LlamaRMSNorm; the output is saved by the adapters that
    read it.
    """
    return 2 * (FLOAT * h + FLOAT + HALF * h)


def attention_saved_bytes(q: int, k: int, heads: int) -> int:
    """`2·2q + 2·2k + 4H`: q, k, v and the output in 16 bit, a float32 log-sum-exp per head.

    Source: torch 2.13 derivatives.yaml, _scaled_dot_product_flash_attention. Grouped keys and values stay grouped.
    """
    return HALF * (2 * q + 2 * k) + FLOAT * heads


def gated_mlp_saved_bytes(inner: int) -> int:
    """`8·I`: gate for the activation, its output and up for the product, the product for the adapter below."""
    return 4 * HALF * inner


def adapters_saved_bytes(rank: int, projections: int = 7) -> int:
    """`2·r` per projection: what A makes, kept for B's gradient. The inputs are shared with the lines above."""
    return projections * HALF * rank


def llama_layer_saved_bytes(*, h: int, q: int, k: int, heads: int, inner: int, rank: int) -> int:  # noqa: PLR0913  a model's widths
    """`12h + 8 + 4q + 4k + 4H + 8I + 14r` per token, under 16-bit autocast with a 16-bit base."""
    return (
        norms_saved_bytes(h)
        + attention_saved_bytes(q, k, heads)
        + gated_mlp_saved_bytes(inner)
        + adapters_saved_bytes(rank)
    )


def checkpoint_bytes(tokens: int, h: int, element_bytes: int) -> int:
    """`e·T·h`: the input of one layer, all that checkpointing keeps of it."""
    return element_bytes * tokens * h
