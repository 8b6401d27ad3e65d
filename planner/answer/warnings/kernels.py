"""Optional packages whose kernels take the place of what was planned."""


from planner.answer.planned import Planned
from planner.answer.warnings.notice import Notice, Replan
from planner.units import format_gib

# What the walk calls the buffers of the rule itself (planner/step/recurrent/delta_rule.py).
_RULE = "linear attention: chunked gated delta rule"
# The same of Mamba's (planner/step/recurrent/mamba2_scan.py).
_SCAN = "state-space layers: chunked scan"
# What a step's lines call an MLP between its projections, and the scores of eager attention (planner/step/lines.py).
_INNER = "MLP: inner activations"
_SCORES = "attention scores"


def plain_linear_attention(plan: Planned, _: Replan) -> Notice | None:
    """Without flash-linear-attention, transformers runs the gated delta rule in plain torch.

    Source: transformers 5.23 integrations/hub_kernels.py, use_kernel_func_from_hub_with_fallback. Neither package comes
    with transformers, peft or trl.
    """
    if not any(".linear_attn." in group.name for group in plan.model.census):
        return None
    message = (
        "This model's linear attention is planned as transformers runs it in plain torch, in float32 chunks of 64 "
        "tokens, which it does unless the package flash-linear-attention is installed. Its kernels and those of "
        "causal-conv1d keep less and are not modelled."
    )
    return _with_bytes(plan, "plain_linear_attention", message, "the plain rule holds", _RULE)


def plain_state_space(plan: Planned, _: Replan) -> Notice | None:
    """Without mamba-ssm, transformers scans in plain torch, with every pair of a chunk's tokens written out per head.

    Source: as above. Kernels of the hub run only where the model is loaded with `use_kernels=True`.
    """
    if not any(group.name.endswith(".A_log") and ".linear_attn." not in group.name for group in plan.model.census):
        return None
    message = (
        "This model's Mamba layers are planned as transformers runs them in plain torch, in float32 chunks, which it "
        "does unless the packages mamba-ssm and causal-conv1d are installed. Their kernels keep far less and are not "
        "modelled."
    )
    return _with_bytes(plan, "plain_state_space", message, "the plain scan holds", _SCAN)


def plain_xielu(plan: Planned, _: Replan) -> Notice | None:
    """Without the package xielu, transformers writes Apertus' activation out: activations.py, XIELUActivation."""
    if not any(group.name.endswith(".act_fn.alpha_p") for group in plan.model.census):
        return None
    message = (
        "This model's activation, xIELU, is planned as transformers writes it out in plain torch, in float32 under "
        "autocast, which it does unless the package xielu is installed. Its kernel keeps less and is not modelled."
    )
    return _with_bytes(plan, "plain_xielu", message, "the MLP's inner activations hold", _INNER)


def sinks_written_out(plan: Planned, _: Replan) -> Notice | None:
    """gpt-oss: transformers 5.23 models/gpt_oss/modeling_gpt_oss.py has eager attention, and kernels of the hub."""
    if not any(group.name.endswith(".sinks") for group in plan.model.census):
        return None
    message = (
        "This model's attention has sinks, which neither torch's kernels nor flash attention 2 take: its score "
        "matrices are planned written out, as transformers' eager attention does. kernels-community/vllm-flash-attn3 "
        "never writes them and is not modelled."
    )
    return _with_bytes(plan, "sinks_written_out", message, "the scores hold", _SCORES)


def _with_bytes(plan: Planned, code: str, message: str, holds: str, name: str) -> Notice:
    """The notice, with what the lines called `name` take at the peak, where they are alive then."""
    held_bytes = sum(line.bytes for line in plan.lines if line.name == name and plan.peak_phase in line.alive_in)
    said = f"{message} At the peak {holds} {format_gib(held_bytes)}." if held_bytes else message
    return Notice(code, said, held_bytes or None)
