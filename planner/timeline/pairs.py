"""Rotary embeddings of pairs of columns: interleaved (DeepSeek V3), and as complex numbers (DeepSeek V2, Llama 4)."""

from planner.timeline.ops import add, cast, mul
from planner.timeline.pieces import concatenate, piece, split
from planner.timeline.tape import Buffer, Dims, Outcome, Tape, Value

Tables = tuple[Value, Value]


def interleaved_pairs(tape: Tape, x: Value, tables: Tables, half: Dims) -> Value:
    """`cat([x1 cos - x2 sin, x2 cos + x1 sin])` of the even and odd columns (apply_rotary_pos_emb_interleave)."""
    return _turned(tape, (piece(tape, x, half), piece(tape, x, half)), tables, x.dims)


def halves(tape: Tape, x: Value, tables: Tables, half: Dims) -> Value:
    """The same of the first and second half, cut by `chunk` (gpt-oss, _apply_rotary_emb)."""
    first, second = split(tape, x, (half, half))
    return _turned(tape, (first, second), tables, x.dims)


def _turned(tape: Tape, x: tuple[Value, Value], tables: Tables, dims: Dims) -> Value:
    first = subtract(tape, mul(tape, x[0], tables[0]), mul(tape, x[1], tables[1]))
    second = add(tape, mul(tape, x[1], tables[0]), mul(tape, x[0], tables[1]))
    return concatenate(tape, (first, second), dims)


def subtract(tape: Tape, a: Value, b: Value) -> Value:
    """`a - b`: the second gradient is negated, a copy."""
    each, dims = a.each, a.dims
    if not tape.needs(a, b):
        return Value(tape.new(each, dims), each, dims)
    edges = (a.edge, b.edge)

    def backward(grad: Buffer) -> Outcome:
        return (edges[0], grad), (edges[1], tape.new(each, dims))

    edge = tape.node(backward)
    return Value(tape.new(each, dims), each, dims, edge)


def complex_pairs(tape: Tape, q: Value, k: Value, tables: Tables) -> tuple[Value, Value]:
    """`view_as_real(view_as_complex(x.float()) * freqs)` cast back, for both (apply_rotary_emb of V2 and Llama 4).

    The table is one complex tensor, as large as cos and sin together.
    """
    wide_q, wide_k = cast(tape, q, 4), cast(tape, k, 4)
    out_q = cast(tape, _times(tape, wide_q, tables), q.each)
    out_k = cast(tape, _times(tape, wide_k, tables), k.each)
    return out_q, out_k


def _times(tape: Tape, x: Value, tables: Tables) -> Value:
    """A complex product, 4 bytes per column; backward copies the gradient in order and conjugates the factors."""
    if not tape.needs(x):
        return Value(tape.new(4, x.dims), 4, x.dims)
    edge_in, dims = x.edge, x.dims

    def backward(_: Buffer) -> Outcome:
        ordered = tape.new(4, dims)
        out = tape.new(4, dims)
        del ordered
        return ((edge_in, out),)

    edge = tape.node(backward, tape.save(*tables))
    return Value(tape.new(4, dims), 4, dims, edge)
