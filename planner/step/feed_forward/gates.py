"""How the two halves of an expert's first product become one."""

from planner.step.engine.graph import Buffer, Dims, Graph, Outcome, Value, framed
from planner.step.engine.ops import mul, unary
from planner.step.engine.slice_ops import piece, split
from planner.step.feed_forward.mlp import activation


@framed
def gate(graph: Graph, act: str, x: Value, inner: Dims, autocast: int) -> Value:
    """`act(gate) * up`."""
    if act == "gpt_oss":
        return _clamped_swish(graph, x, inner)
    first, up = split(graph, x, (inner, inner))
    return mul(graph, activation(graph, act, first, autocast), up)


@framed
def _clamped_swish(graph: Graph, x: Value, inner: Dims) -> Value:
    """`(clamp(up) + 1) * gate * sigmoid(alpha * gate)` of every other column (GptOssExperts._apply_gate)."""
    first, up = graph.hold((piece(graph, x, inner), piece(graph, x, inner)))
    first, up = graph.replace((first, up), (_clamp(graph, first, sides=1), _clamp(graph, up, sides=2)))
    swish = graph.hold(mul(graph, first, unary(graph, unary(graph, first), saves="output")))
    result = graph.hold(mul(graph, unary(graph, up), swish))
    graph.release(first, up, swish)
    return result


@framed
def _clamp(graph: Graph, x: Value, *, sides: int) -> Value:
    """Saves its input; backward compares once per side, a byte per element."""
    if not graph.needs(x):
        return Value(graph.new(x.each, x.dims), x.each, x.dims)
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        masks = graph.hold([graph.new(1, dims) for _ in range(sides)])
        out = graph.hold(graph.new(each, dims))
        graph.release(masks)
        return ((edge_in, out),)

    edge = graph.node(backward, graph.save(x))
    return Value(graph.new(each, dims), each, dims, edge)
