"""What scans in chunks share: running sums within a chunk, masks over its pairs, and what is left at its end."""

from planner.step.engine.cards import new_tensor
from planner.step.engine.gradients import later
from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed
from planner.step.engine.slice_ops import piece


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
    """`x[..., -1:] - x`; the gradient of the last column is summed, then put into rows of its own."""
    edge_in, rows = x.edge, x.dims
    last = piece(graph, x, ("chunks", "b", rows[-1]))

    def backward(grad: Buffer) -> Outcome:
        return (edge_in, graph.new(4, rows)), (last.edge, later(grad, lambda: graph.new(4, last.dims)))

    edge = graph.node(backward) if graph.needs(x) else None
    return Value(graph.new(4, rows), 4, rows, edge)


def ends(graph: Graph, x: Value) -> Value:
    """`x[..., -1]`, a view."""
    return piece(graph, x, ("chunks", "b", x.dims[-1]))


@framed
def clamp(graph: Graph, x: Value) -> Value:
    """`x.clamp(lowest, highest)`; backward asks of each number whether it is within both, and takes zero where not."""
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        within = (graph.new(each, ()), graph.new(1, dims), graph.new(1, dims))
        out = graph.new(each, dims)
        graph.release(within)
        return ((edge_in, out),)

    edge = graph.node(backward, graph.save(x)) if graph.needs(x) else None
    return Value(graph.new(each, dims), each, dims, edge)
