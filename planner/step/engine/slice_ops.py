"""Slices, splits and concatenations: views cost nothing forward, their gradients do."""

from collections.abc import Sequence
from functools import reduce

from planner.step.engine.cards import new_tensor, view_of
from planner.step.engine.graph import Buffer, Dims, Edge, Graph, Outcome, Value, framed
from planner.step.engine.widths import promoted


def piece(graph: Graph, x: Value, dims: Dims) -> Value:
    """`x[..., a:b]`, a view; its backward (slice_backward) fills a tensor of x's size."""
    return view_of(graph, x, dims)


@framed
def concatenate(graph: Graph, parts: Sequence[Value], dims: Dims) -> Value:
    """`torch.cat`, a copy; its backward hands out views of the one gradient."""
    each = reduce(promoted, (part.each for part in parts))
    if not graph.needs(*parts):
        return Value(graph.new(each, dims), each, dims)
    edges = tuple(part.edge for part in parts)

    def backward(grad: Buffer) -> Outcome:
        return tuple((edge, grad) for edge in edges)

    edge = graph.node(backward)
    return Value(graph.new(each, dims), each, dims, edge)


@framed
def split(graph: Graph, x: Value, parts: Sequence[Dims]) -> tuple[Value, ...]:
    """`x.chunk(n)` or `x.split(...)`: views; the backward waits for all gradients and copies them together."""
    if not graph.needs(x):
        return tuple(Value(x.buffer, x.each, dims) for dims in parts)
    edge_in, each, whole = x.edge, x.each, x.dims
    others = [Edge() for _ in parts[1:]]

    def backward(_: Buffer) -> Outcome:
        joined = graph.new(each, whole)
        for other in others:
            other.drop()
        return ((edge_in, joined),)

    edges = (graph.node(backward), *others)
    return tuple(Value(x.buffer, each, dims, edge) for dims, edge in zip(parts, edges, strict=True))


def pad(graph: Graph, x: Value, dims: Dims) -> Value:
    """`F.pad`, a copy even where nothing is added (constant_pad_nd); so is its gradient."""
    return new_tensor(graph, x, x.each, dims)
