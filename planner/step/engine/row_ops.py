"""Operations that pick rows: gather, top-k, and a factor per row. Their gradients are scattered back into zeros."""

from planner.step.engine.cards import new_tensor
from planner.step.engine.gradients import later
from planner.step.engine.graph import Buffer, Dims, Graph, Outcome, Value, framed
from planner.step.engine.ops import cast_later


def gather(graph: Graph, x: Value, index: Value, dims: Dims) -> Value:
    """`x[index]` or `x.gather(index)`: saves the index; backward puts the rows into zeros."""
    return new_tensor(graph, x, x.each, dims, (index,))


@framed
def top_k(graph: Graph, x: Value) -> tuple[Value, Value]:
    """`torch.topk`: the values, and where they were (8 bytes each), which is saved."""
    dims = (*x.dims[:-1], "top")
    if not graph.needs(x):
        return Value(graph.new(x.each, dims), x.each, dims), Value(graph.new(8, dims), 8, dims)
    edge_in, each, whole = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, graph.new(each, whole)),)

    values, index = graph.hold((graph.new(each, dims), graph.new(8, dims)))
    edge = graph.node(backward, graph.save(index))
    return Value(values, each, dims, edge), Value(index, 8, dims)


@framed
def normalise(graph: Graph, x: Value) -> Value:
    """`x /= x.sum(-1, keepdim=True)`: in place, so that the values it had are copied and saved with the sums."""
    rows = x.dims[:-1]
    sums = graph.hold(graph.new(4, rows))
    if not graph.needs(x):
        return Value(x.buffer, x.each, x.dims)
    before = graph.new(x.each, x.dims)
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        to_sums = graph.new(4, dims)
        divided = graph.new(each, dims)
        graph.release(to_sums)
        return (edge_in, divided), (edge_in, graph.new(each, dims))

    edge = graph.node(backward, graph.save(before, sums))
    return Value(x.buffer, each, dims, edge)


@framed
def scale_rows(graph: Graph, x: Value, factors: Value) -> Value:
    """`x * factors[..., None]`: each saved for the other; the factors' gradient is a full product, summed last."""
    each, dims = max(x.each, factors.each), x.dims
    if not graph.needs(x, factors):
        return Value(graph.new(each, dims), each, dims)
    x_edge, own, factor_edge, factor_each, rows = x.edge, x.each, factors.edge, factors.each, factors.dims

    def backward(_: Buffer) -> Outcome:
        summed = later(graph.new(each, dims), lambda: graph.new(factor_each, rows)) if factor_edge else None
        to_x = cast_later(graph, graph.new(each, dims), dims, each=each, own=own) if x_edge else None
        return (x_edge, to_x), (factor_edge, summed)

    saved = (graph.save(factors) if x_edge else []) + (graph.save(x) if factor_edge else [])
    edge = graph.node(backward, saved)
    return Value(graph.new(each, dims), each, dims, edge)


def sum_pairs(graph: Graph, x: Value, dims: Dims, out: int) -> Value:
    """`x.view(T, top, h).sum(1)` into `out` bytes per element; backward writes the gradient out once per pair."""
    return new_tensor(graph, x, out, dims)
