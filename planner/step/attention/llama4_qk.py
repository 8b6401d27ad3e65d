"""What Llama 4 does to queries and keys after the rotation, or in place of it; Hunyuan's head norms come there, too.

Source: transformers 5.23 models/llama4/modeling_llama4.py, Llama4TextAttention.forward: complex rotation before the
heads are transposed, then a norm without weights; layers without positions scale their queries instead.
"""

from dataclasses import replace

from planner.families.parts import Attention, Norm
from planner.step.attention.rotary_pairs import Tables, complex_pairs
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import cast, view
from planner.step.engine.row_ops import scale_rows
from planner.step.norms import norm
from planner.step.switches import LigerPatches, Switches

_QUERY = Norm("qk_norm", "d", "rms", weight=False, per=("H",))
_KEY = Norm("qk_norm", "d", "rms", weight=False, per=("K",))


@framed
def late(
    graph: Graph, part: Attention, qk: tuple[Value, Value], tables: Tables | None, switches: Switches
) -> tuple[Value, Value]:
    """q and k as the kernel takes them."""
    q, k = qk
    if part.rotary == "complex" and tables:
        q, k = graph.replace((q, k), complex_pairs(graph, q, k, tables))
    if part.late_norm:
        if part.q_norm is None:
            switches = replace(switches, liger=LigerPatches())
        q = graph.replace(q, view(norm(graph, part.q_norm or _QUERY, view(q, ("T", "H", "d")), switches), ("T", "q")))
        k = graph.replace(k, view(norm(graph, part.k_norm or _KEY, view(k, ("T", "K", "d")), switches), ("T", "k")))
    if part.tempered:
        factors = graph.hold(Value(graph.new(4, ("s",)), 4, ("s",)))
        q = graph.replace(q, cast(graph, scale_rows(graph, q, factors), q.each))
    return q, k
