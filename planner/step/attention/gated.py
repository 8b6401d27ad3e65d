"""Attention whose output is multiplied by a gate out of the query projection (Qwen3-Next, Qwen3.5).

Source: transformers 5.23 models/qwen3_next/modeling_qwen3_next.py, Qwen3NextAttention.forward.
"""

from planner.families.parts import Attention
from planner.step.attention.kernels import attend
from planner.step.attention.standard import QKV, Shared, normed, summed, turned
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import clone, mul, relayout_gradient, unary, view
from planner.step.engine.slice_ops import split
from planner.step.projections.linear import Projector


@framed
def gated_attention(graph: Graph, part: Attention, x: Value, project: Projector, shared: Shared) -> Value:
    """`self_attn(x)`."""
    if not (part.q and part.k and part.v):
        msg = "gated attention needs q, k and v"
        raise ValueError(msg)
    mask = shared.mask if project.layer.masked else None
    with graph.cause(QKV):
        q, gate = graph.hold(split(graph, project(part.q, x), (("T", "q"), ("T", "q"))))
        gate = graph.replace(gate, clone(graph, gate))
        q = graph.replace(q, normed(graph, part, q, project, query=True))
        k = normed(graph, part, project(part.k, x), project, query=False)
        v = graph.hold(project(part.v, x))
        q, k = graph.replace((q, k), turned(graph, part, q, k, shared))
        if shared.cache:
            k, v = graph.replace((k, v), shared.cache.update(k, v))
        if summed(project.layer):
            v = relayout_gradient(graph, v)
        if not project.layer.grouped:
            k, v = view(k, q.dims), view(v, q.dims)
        out, weights = attend(graph, (q, k, v), project.switches, project.layer, mask)
        project.named.put(weights)
        if project.layer.kernel not in {"eager", "math"}:
            out = clone(graph, out)
        out = mul(graph, out, unary(graph, gate, saves="output"))
        return project(part.o, out)
