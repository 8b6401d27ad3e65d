"""What surprises people about a plan, in words, with the bytes it costs where a number exists.

Each check takes the plan and returns its notice, or None where it does not apply.
"""


from planner.answer.planned import Planned
from planner.answer.warnings import kernels, numerics, spreading, surprises
from planner.answer.warnings.notice import Notice, Replan

__all__ = ["Notice", "notices"]

# The gravest first.
_CHECKS = (
    numerics.base_too_large,
    spreading.layers_on_the_host,
    spreading.one_card_at_a_time,
    numerics.not_cuda,
    numerics.bitsandbytes_unsupported,
    numerics.bf16_unsupported,
    numerics.unscalable_gradients,
    numerics.fused_head_unsupported,
    numerics.flash_attention_unsupported,
    surprises.experts_in_16_bit,
    surprises.adapters_on_experts,
    surprises.float32_embeddings,
    numerics.float32_compute,
    numerics.adapters_mismatch,
    numerics.no_double_quantization,
    surprises.padded_batch,
    surprises.evaluation_is_the_peak,
    surprises.packed_without_flash,
    surprises.packed_states,
    surprises.eager_by_default,
    kernels.plain_linear_attention,
    kernels.plain_state_space,
    kernels.plain_xielu,
    kernels.sinks_written_out,
    numerics.fp4_not_nf4,
    numerics.int4_not_nf4,
    numerics.packed_checkpoint,
    surprises.float32_from_a_string,
    surprises.old_chunked_loss,
    surprises.targets_without_effect,
    surprises.nothing_is_paged,
)


def notices(plan: Planned, replan: Replan) -> tuple[Notice, ...]:
    """All warnings that apply."""
    found = (check(plan, replan) for check in _CHECKS)
    return tuple(notice for notice in found if notice is not None)
