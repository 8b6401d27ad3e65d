"""Attention whose output is multiplied by a gate out of the query projection (Qwen3-Next, Qwen3.5).

Source: transformers 5.23 models/qwen3_next/modeling_qwen3_next.py, Qwen3NextAttention.forward.
"""

from planner.families.parts import Attention
from planner.timeline.attend import attend
from planner.timeline.attention import QKV, Shared, normed, summed, turned
from planner.timeline.ops import clone, mul, relayout_gradient, unary, view
from planner.timeline.pieces import split
from planner.timeline.projections import Projector
from planner.timeline.tape import Tape, Value


def gated_attention(tape: Tape, part: Attention, x: Value, project: Projector, shared: Shared) -> Value:
    """`self_attn(x)`."""
    if not (part.q and part.k and part.v):
        msg = "gated attention needs q, k and v"
        raise ValueError(msg)
    mask = shared.mask if project.layer.masked else None
    with tape.cause(QKV):
        q, gate = split(tape, project(part.q, x), (("T", "q"), ("T", "q")))
        gate = clone(tape, gate)
        q = normed(tape, part, q, project, query=True)
        k = normed(tape, part, project(part.k, x), project, query=False)
        v = project(part.v, x)
        q, k = turned(tape, part, q, k, shared)
        if summed(project.layer):
            v = relayout_gradient(tape, v)
        if not project.layer.grouped:
            k, v = view(k, q.dims), view(v, q.dims)
        out, weights = attend(tape, (q, k, v), project.switches, project.layer, mask)
        project.named += weights
        if project.layer.kernel not in {"eager", "math"}:
            out = clone(tape, out)
        out = mul(tape, out, unary(tape, gate, saves="output"))
        out = project(part.o, out)
        return out  # noqa: RET504  # q, k and v outlive the kernel's output, as the modelling code's names do
