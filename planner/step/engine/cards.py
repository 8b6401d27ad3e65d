"""Operators of one tensor, each described by a card: its output, what it saves, what its gradient is."""

from planner.step.engine.frames import framed
from planner.step.engine.graph import Buffer, Dims, Graph, Outcome, Value

Saved = tuple[Value | Buffer | None, ...]


@framed
def new_tensor(  # noqa: PLR0913  (each is a line of the card)
    graph: Graph, x: Value, each: int, dims: Dims, saves: Saved = (), *, passes: bool = False, tag: str = ""
) -> Value:
    """An output of its own, `each` bytes per element of `dims`; a gradient of x's shape and dtype, whose line is `tag`.

    `passes`: the gradient is the incoming one itself. What it saves is saved before the output is made.
    """
    if not graph.needs(x):
        return Value(graph.new(each, dims), each, dims)
    edge_in, own, shape = x.edge, x.each, x.dims

    def backward(grad: Buffer) -> Outcome:
        return ((edge_in, grad if passes else graph.new(own, shape, tag)),)

    edge = graph.node(backward, graph.save(*saves))
    return Value(graph.new(each, dims), each, dims, edge)


@framed
def view_of(graph: Graph, x: Value, dims: Dims, saves: Saved = ()) -> Value:
    """x's memory under other dims; a gradient of x's shape in memory of its own."""
    if not graph.needs(x):
        return Value(x.buffer, x.each, dims)
    edge_in, each, shape = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, graph.new(each, shape)),)

    return Value(x.buffer, each, dims, graph.node(backward, graph.save(*saves)))
