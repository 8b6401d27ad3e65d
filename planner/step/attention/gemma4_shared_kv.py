"""Gemma 4's attention: values have a norm of their own, and late layers read keys and values that earlier ones stored.

Source: transformers 5.23 models/gemma4/modeling_gemma4.py, Gemma4TextAttention, and cache_utils.py KVSharingDict. The
stored tensors outlive their layer, and so does what their gradient needs where a checkpoint has made them again: the
dictionary holds them, and every checkpoint holds the dictionary.
"""

from planner.families.parts import Attention
from planner.step.attention.kernels import attend
from planner.step.attention.rotary import turn
from planner.step.attention.standard import QKV, Shared, Stored, summed
from planner.step.engine.graph import Buffer, Graph, Value, framed
from planner.step.engine.ops import relayout_gradient, view
from planner.step.norms import norm
from planner.step.projections.linear import Projector


def shares_keys(part: Attention) -> bool:
    """Whether this is that attention."""
    return part.v_norm is not None or part.keys == "reused"


@framed
def attention_sharing_keys(graph: Graph, part: Attention, x: Value, project: Projector, shared: Shared) -> Value:
    """`self_attn(x)`."""
    mask = shared.mask if project.layer.masked else None
    tables = shared.tables
    if part.q is None or part.q_norm is None or tables is None:
        msg = "this attention has a query projection, its norm and positions"
        raise ValueError(msg)
    with graph.cause(QKV):
        before = len(graph.nodes)
        q = view(project(part.q, x), ("T", "H", "d"))
        q = view(norm(graph, part.q_norm, q, project.switches), ("T", "q"))
        q = graph.replace(q, turn(graph, q, tables, "full", "q rot"))
        if part.keys == "reused":
            k, v, _ = shared.stored[part.window]
        else:
            start = len(graph.nodes)
            k, v = graph.hold(_keys(graph, part, x, project, tables))
            if shared.cache:
                k, v = graph.replace((k, v), shared.cache.update(k, v))
            if part.keys == "stored":
                shared.stored[part.window] = Stored(k, v, _needed(graph, before, start))
        if not project.layer.grouped:
            k, v = view(k, q.dims), view(v, q.dims)
        out, weights = attend(graph, (q, k, v), project.switches, project.layer, mask)
        project.named.put(weights)
        return project(part.o, out)


@framed
def _keys(
    graph: Graph, part: Attention, x: Value, project: Projector, tables: tuple[Value, Value]
) -> tuple[Value, Value]:
    """This layer's own keys and values."""
    if part.k is None or part.k_norm is None or part.v_norm is None:
        msg = "a layer that reuses no keys has a projection and norms for them"
        raise ValueError(msg)
    reach = "sliding" if part.window else "full"
    k = project(part.k, x)
    v = graph.hold(project(part.v, x) if part.v else k)
    # What is stored goes when no layer is on, whose numbers would say how large it was.
    heads = ("T", f"K of {reach}", f"d of {reach}")
    k = view(norm(graph, part.k_norm, view(k, heads), project.switches), ("T", f"k of {reach}"))
    k = turn(graph, k, tables, "full", "k rot")
    v = norm(graph, part.v_norm, view(v, heads), project.switches)
    k, v = view(k, ("T", "k")), view(v, ("T", "k"))
    return k, relayout_gradient(graph, v) if summed(project.layer) else v


def _needed(graph: Graph, before: int, start: int) -> tuple[Buffer, ...]:
    """What the graph of keys and values made again by a checkpoint holds: all of the layer so far but its queries."""
    if graph.replay_from is None:
        return ()
    nodes = graph.nodes[graph.replay_from : before] + graph.nodes[start:]
    saved = (holder.buffer for node in nodes if isinstance(node, tuple) for holder in node[2])
    return tuple(buffer for buffer in saved if buffer)
