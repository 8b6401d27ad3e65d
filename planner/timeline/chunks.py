"""What scans in chunks share: running sums within a chunk, masks over its pairs, and what is left at its end."""

from planner.timeline.tape import Buffer, Outcome, Tape, Value


def cumulative(tape: Tape, x: Value) -> Value:
    """`cumsum`; backward turns the gradient round, sums, and turns it back."""
    edge_in, dims = x.edge, x.dims

    def backward(_: Buffer) -> Outcome:
        turned = tape.new(4, dims)
        summed = tape.new(4, dims)
        out = tape.new(4, dims)
        del turned, summed
        return ((edge_in, out),)

    edge = tape.node(backward) if tape.needs(x) else None
    return Value(tape.new(4, dims), 4, dims, edge)


def masked(tape: Tape, x: Value, mask: Buffer) -> Value:
    """`masked_fill`; the gradient is filled, too."""
    edge_in, dims = x.edge, x.dims
    if not tape.needs(x):
        return Value(tape.new(4, dims), 4, dims)
    edge = tape.node(lambda _: ((edge_in, tape.new(4, dims)),), tape.save(mask))
    return Value(tape.new(4, dims), 4, dims, edge)


def to_end(tape: Tape, x: Value) -> Value:
    """`x[..., -1:] - x`; the gradient of the last column is put into rows of its own."""
    edge_in, rows = x.edge, x.dims

    def backward(_: Buffer) -> Outcome:
        negated = tape.new(4, rows)
        last = tape.new(4, ("chunks", "b", rows[-1]))
        placed = tape.new(4, rows)
        del last
        return (edge_in, negated), (edge_in, placed)

    edge = tape.node(backward) if tape.needs(x) else None
    return Value(tape.new(4, rows), 4, rows, edge)


def ends(tape: Tape, x: Value) -> Value:
    """`x[..., -1]`, a view."""
    edge_in, rows = x.edge, x.dims
    edge = tape.node(lambda _: ((edge_in, tape.new(4, rows)),)) if tape.needs(x) else None
    return Value(x.buffer, 4, ("chunks", "b", rows[-1]), edge)
