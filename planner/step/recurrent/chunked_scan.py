"""What scans in chunks share: running sums within a chunk, masks over its pairs, and what is left at its end."""

from planner.step.engine.cards import new_tensor
from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed


@framed
def cumulative(graph: Graph, x: Value) -> Value:
    """`cumsum`; backward turns the gradient round, sums, and turns it back."""
    edge_in, dims = x.edge, x.dims

    def backward(_: Buffer) -> Outcome:
        turned = graph.new(4, dims)
        summed = graph.new(4, dims)
        out = graph.new(4, dims)
        graph.release(turned, summed)
        return ((edge_in, out),)

    edge = graph.node(backward) if graph.needs(x) else None
    return Value(graph.new(4, dims), 4, dims, edge)


def masked(graph: Graph, x: Value, mask: Buffer) -> Value:
    """`masked_fill`; the gradient is filled, too."""
    return new_tensor(graph, x, 4, x.dims, (mask,))


@framed
def to_end(graph: Graph, x: Value) -> Value:
    """`x[..., -1:] - x`; the gradient of the last column is put into rows of its own."""
    edge_in, rows = x.edge, x.dims

    def backward(_: Buffer) -> Outcome:
        negated = graph.new(4, rows)
        last = graph.new(4, ("chunks", "b", rows[-1]))
        placed = graph.new(4, rows)
        graph.release(last)
        return (edge_in, negated), (edge_in, placed)

    edge = graph.node(backward) if graph.needs(x) else None
    return Value(graph.new(4, rows), 4, rows, edge)


@framed
def ends(graph: Graph, x: Value) -> Value:
    """`x[..., -1]`, a view."""
    edge_in, rows = x.edge, x.dims
    edge = graph.node(lambda _: ((edge_in, graph.new(4, rows)),)) if graph.needs(x) else None
    return Value(x.buffer, 4, ("chunks", "b", rows[-1]), edge)
