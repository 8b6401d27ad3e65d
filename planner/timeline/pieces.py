"""Slices, splits and concatenations: views cost nothing forward, their gradients do."""

from collections.abc import Sequence

from planner.timeline.tape import Buffer, Dims, Edge, Outcome, Tape, Value


def piece(tape: Tape, x: Value, dims: Dims) -> Value:
    """`x[..., a:b]`, a view; its backward (slice_backward) fills a tensor of x's size."""
    if not tape.needs(x):
        return Value(x.buffer, x.each, dims)
    edge_in, each, whole = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, tape.new(each, whole)),)

    return Value(x.buffer, x.each, dims, tape.node(backward))


def pick(tape: Tape, x: Value, dims: Dims) -> Value:
    """`x[..., [i]]`, a copy; its backward puts it into a blank of x's size (index_put)."""
    if not tape.needs(x):
        return Value(tape.new(x.each, dims), x.each, dims)
    edge_in, each, whole = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, tape.new(each, whole)),)

    edge = tape.node(backward)
    return Value(tape.new(each, dims), each, dims, edge)


def concatenate(tape: Tape, parts: Sequence[Value], dims: Dims) -> Value:
    """`torch.cat`, a copy; its backward hands out views of the one gradient."""
    each = max(part.each for part in parts)
    if not tape.needs(*parts):
        return Value(tape.new(each, dims), each, dims)
    edges = tuple(part.edge for part in parts)

    def backward(grad: Buffer) -> Outcome:
        return tuple((edge, grad) for edge in edges)

    edge = tape.node(backward)
    return Value(tape.new(each, dims), each, dims, edge)


def split(tape: Tape, x: Value, parts: Sequence[Dims]) -> tuple[Value, ...]:
    """`x.chunk(n)` or `x.split(...)`: views; the backward waits for all gradients and copies them together."""
    if not tape.needs(x):
        return tuple(Value(x.buffer, x.each, dims) for dims in parts)
    edge_in, each, whole = x.edge, x.each, x.dims
    others = [Edge() for _ in parts[1:]]

    def backward(_: Buffer) -> Outcome:
        joined = tape.new(each, whole)
        for other in others:
            other.grad = None
        return ((edge_in, joined),)

    edges = (tape.node(backward), *others)
    return tuple(Value(x.buffer, each, dims, edge) for dims, edge in zip(parts, edges, strict=True))


def pad(tape: Tape, x: Value, dims: Dims) -> Value:
    """`F.pad`, a copy even where nothing is added (constant_pad_nd); so is its gradient."""
    if not tape.needs(x):
        return Value(tape.new(x.each, dims), x.each, dims)
    edge_in, each, own = x.edge, x.each, x.dims
    edge = tape.node(lambda _: ((edge_in, tape.new(each, own)),))
    return Value(tape.new(each, dims), each, dims, edge)
