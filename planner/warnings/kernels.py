"""Optional packages whose kernels take the place of what was planned."""

from typing import TYPE_CHECKING

from planner.units import format_gib
from planner.warnings.notice import Notice, Replan

if TYPE_CHECKING:
    from planner.plan import Plan

# What the walk calls the buffers of the rule itself (planner/timeline/delta_rule.py).
_RULE = "linear attention: chunked gated delta rule"


def plain_linear_attention(plan: "Plan", _: Replan) -> Notice | None:
    """Without flash-linear-attention, transformers runs the gated delta rule in plain torch.

    Source: transformers 5.23 integrations/hub_kernels.py, use_kernel_func_from_hub_with_fallback. Neither package comes
    with transformers, peft or trl.
    """
    if not any(".linear_attn." in group.name for group in plan.model.census):
        return None
    held_bytes = sum(line.bytes for line in plan.lines if line.name == _RULE and plan.peak_phase in line.alive_in)
    message = (
        "This model's linear attention is planned as transformers runs it in plain torch, in float32 chunks of 64 "
        "tokens, which it does unless the package flash-linear-attention is installed. Its kernels and those of "
        "causal-conv1d keep less and are not modelled."
    )
    if held_bytes:
        message += f" At the peak the plain rule holds {format_gib(held_bytes)}."
    return Notice("plain_linear_attention", message, held_bytes or None)
