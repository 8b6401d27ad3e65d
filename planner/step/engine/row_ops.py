"""Operations that pick rows: gather, top-k, and a factor per row. Their gradients are scattered back into zeros."""

from planner.step.engine.cards import new_tensor
from planner.step.engine.gradients import later
from planner.step.engine.graph import Alias, Buffer, Dims, Graph, Outcome, Value, framed
from planner.step.engine.ops import cast_later
from planner.step.engine.widths import promoted


def gather(graph: Graph, x: Value, index: Value) -> Value:
    """`x.gather(-1, index)`: saves x and the index; backward puts the numbers into zeros."""
    return new_tensor(graph, x, x.each, index.dims, (x, index))


@framed
def rows_at(graph: Graph, x: Value, index: Value, dims: Dims) -> Value:
    """`x[index]`: saves the index; backward puts the rows into zeros, sorted by index (index_put_, accumulate).

    Source: torch 2.13 aten/src/ATen/native/cuda/Indexing.cu, index_put_with_sort_kernel: the index wrapped, in bytes of
    a row, both sorted, and a range. What cub sorts in besides is a byte for as many as one block takes, which is all
    that is counted here.
    """
    edge_in, each, shape, count = x.edge, x.each, x.dims, index.dims
    if not graph.needs(x):
        return Value(graph.new(each, dims), each, dims)

    def backward(_: Buffer) -> Outcome:
        blank = graph.new(each, shape)
        wrapped = graph.new(8, count)
        linear = graph.new(8, count)
        graph.release(wrapped)
        graph.release([linear, *(graph.new(8, count) for _ in ("range", "sorted", "order")), graph.new(1, ())])
        return ((edge_in, blank),)

    edge = graph.node(backward, graph.save(index))
    return Value(graph.new(each, dims), each, dims, edge)


@framed
def column_at(graph: Graph, x: Value, dims: Dims) -> Value:
    """`x[..., [i]]`, a copy: the list becomes an index on the card."""
    return rows_at(graph, x, Value(graph.new(8, ()), 8, ()), dims)


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
    """`x /= x.sum(-1, keepdim=True)`: in place, so that the values it had are copied and saved with the sums.

    Backward (div_tensor_other_backward) the gradient negated, x over the sums, that over the sums again, and their
    product, which the engine sums up; then x's own. What comes back from the sums is added to that in place.
    """
    rows = x.dims[:-1]
    sums = graph.hold(graph.new(4, rows))
    if not graph.needs(x):
        return Value(x.buffer, x.each, x.dims)
    before = graph.new(x.each, x.dims)
    edge_in, each, dims = x.edge, x.each, x.dims
    to_sums = graph.node(lambda grad: ((edge_in, Alias(grad)),))

    def backward(_: Buffer) -> Outcome:
        factors = [graph.new(4, dims) for _ in ("negated", "divided", "divided twice")]
        summed = later(graph.new(4, dims), lambda: graph.new(4, rows))
        graph.release(factors)
        return (edge_in, graph.new(each, dims)), (to_sums, summed)

    edge = graph.node(backward, graph.save(before, sums))
    return Value(x.buffer, each, dims, edge)


@framed
def scale_rows(graph: Graph, x: Value, factors: Value) -> Value:
    """`x * factors[..., None]`: each saved for the other; the factors' gradient is a full product, summed last."""
    each, dims = promoted(x.each, factors.each), x.dims
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
