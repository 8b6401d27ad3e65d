"""Optional packages whose kernels take the place of what was planned."""

from typing import TYPE_CHECKING

from planner.answer.warnings.notice import Notice, Replan
from planner.units import format_gib

if TYPE_CHECKING:
    from planner.answer.plan import Plan

# What the walk calls the buffers of the rule itself (planner/step/recurrent/delta_rule.py).
_RULE = "linear attention: chunked gated delta rule"
# The same of Mamba's (planner/step/recurrent/mamba2_scan.py).
_SCAN = "state-space layers: chunked scan"


def plain_linear_attention(plan: "Plan", _: Replan) -> Notice | None:
    """Without flash-linear-attention, transformers runs the gated delta rule in plain torch.

    Source: transformers 5.23 integrations/hub_kernels.py, use_kernel_func_from_hub_with_fallback. Neither package comes
    with transformers, peft or trl.
    """
    if not any(".linear_attn." in group.name for group in plan.model.census):
        return None
    held_bytes = _held_at_the_peak(plan, _RULE)
    message = (
        "This model's linear attention is planned as transformers runs it in plain torch, in float32 chunks of 64 "
        "tokens, which it does unless the package flash-linear-attention is installed. Its kernels and those of "
        "causal-conv1d keep less and are not modelled."
    )
    if held_bytes:
        message += f" At the peak the plain rule holds {format_gib(held_bytes)}."
    return Notice("plain_linear_attention", message, held_bytes or None)


def plain_state_space(plan: "Plan", _: Replan) -> Notice | None:
    """Without mamba-ssm, transformers scans in plain torch, with every pair of a chunk's tokens written out per head.

    Source: as above. Kernels of the hub run only where the model is loaded with `use_kernels=True`.
    """
    if not any(group.name.endswith(".A_log") and ".linear_attn." not in group.name for group in plan.model.census):
        return None
    held_bytes = _held_at_the_peak(plan, _SCAN)
    message = (
        "This model's Mamba layers are planned as transformers runs them in plain torch, in float32 chunks, which it "
        "does unless the packages mamba-ssm and causal-conv1d are installed. Their kernels keep far less and are not "
        "modelled."
    )
    if held_bytes:
        message += f" At the peak the plain scan holds {format_gib(held_bytes)}."
    return Notice("plain_state_space", message, held_bytes or None)


def _held_at_the_peak(plan: "Plan", name: str) -> int:
    return sum(line.bytes for line in plan.lines if line.name == name and plan.peak_phase in line.alive_in)
