"""Rotary embeddings as each family writes them. `turn(tape, x, tables, kind)` gives q or k with positions.

Sources: apply_rotary_pos_emb of the models named in planner/families.
"""

from planner.families.parts import Rotary
from planner.timeline.ops import add, cast, mul
from planner.timeline.pieces import concatenate, piece
from planner.timeline.tape import Buffer, Outcome, Tape, Value

Tables = tuple[Value, Value]
# Their cos and sin are written out pairwise for every layer (repeat_interleave).
PAIRED = frozenset({"interleaved", "float_halves"})
# They end in a concatenation, so that q lies head by head in memory, and so does the kernel's output.
CONCATENATED = frozenset({"interleaved", "partial", "partial_cat"})


def layer_tables(tape: Tape, tables: Tables, kind: Rotary) -> Tables:
    """cos and sin as this layer uses them."""
    if kind not in PAIRED:
        return tables
    cos, sin = (Value(tape.new(table.each, table.dims), table.each, table.dims) for table in tables)
    return cos, sin


def turn(tape: Tape, x: Value, tables: Tables, kind: Rotary, rotated: str) -> Value:
    """Positions into one of q and k. `rotated` names the dimension that is turned where only a part is."""
    if kind == "none":
        return x
    if kind in {"partial", "interleaved", "partial_cat"}:
        return _in_part(tape, x, tables, kind, rotated)
    if kind == "float_halves":
        straight = mul(tape, cast(tape, x, 4), tables[0])
        crossed = mul(tape, cast(tape, rotate_half(tape, x), 4), tables[1])
        return cast(tape, add(tape, straight, crossed), x.each)
    if kind == "float":
        return cast(tape, _whole(tape, cast(tape, x, 4), tables), x.each)
    return cast(tape, _whole(tape, x, tables), x.each)


def _in_part(tape: Tape, x: Value, tables: Tables, kind: Rotary, rotated: str) -> Value:
    """Some columns of each head turned, the rest (which may be none) put back behind them."""
    if kind == "partial_cat":
        turned, rest = _whole(tape, x, tables), "none"
    else:
        turned, rest = _whole(tape, piece(tape, x, (*x.dims[:-1], rotated)), tables), f"{x.dims[-1]} rest"
    return concatenate(tape, (turned, piece(tape, x, (*x.dims[:-1], rest))), x.dims)


def _whole(tape: Tape, x: Value, tables: Tables) -> Value:
    """`x * cos + rotate_half(x) * sin`. Nothing but the tables is saved."""
    straight = mul(tape, x, tables[0])
    crossed = mul(tape, rotate_half(tape, x), tables[1])
    return add(tape, straight, crossed)


def rotate_half(tape: Tape, x: Value) -> Value:
    """`cat((-x2, x1))`. Its backward fills a whole tensor per half (slice_backward) and adds the two."""
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        negated = tape.new(each, dims, den=2)
        second = tape.new(each, dims)
        del negated
        return (edge_in, second), (edge_in, tape.new(each, dims))

    edge = tape.node(backward) if tape.needs(x) else None
    negated = tape.new(each, dims, den=2)
    out = tape.new(each, dims)
    del negated
    return Value(out, each, dims, edge)
