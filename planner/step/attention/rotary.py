"""Rotary embeddings as each family writes them. `turn(graph, x, tables, kind)` gives q or k with positions.

Sources: apply_rotary_pos_emb of the models named in planner/families.
"""

from planner.families.parts import Rotary
from planner.step.engine.graph import Buffer, Graph, Outcome, SharedShelf, Value, framed
from planner.step.engine.ops import add, cast, mul
from planner.step.engine.slice_ops import concatenate, piece

Tables = tuple[Value, Value]
# Their cos and sin are written out pairwise for every layer (repeat_interleave).
PAIRED = frozenset({"interleaved", "float_halves"})
# They end in a concatenation, so that q lies head by head in memory, and so does the kernel's output.
CONCATENATED = frozenset({"interleaved", "partial", "partial_cat", "gathered"})


@framed
def layer_tables(graph: Graph, tables: Tables, kind: Rotary) -> Tables:
    """cos and sin as this layer uses them."""
    if kind not in PAIRED:
        return tables
    cos, sin = (Value(graph.new(table.each, table.dims), table.each, table.dims) for table in tables)
    return cos, sin


@framed
def turn(graph: Graph, x: Value, tables: Tables, kind: Rotary, rotated: str) -> Value:
    """Positions into one of q and k. `rotated` names the dimension that is turned where only a part is."""
    if kind == "none":
        return x
    if kind in {"partial", "interleaved", "partial_cat"}:
        return _in_part(graph, x, tables, kind, rotated)
    if kind == "float_halves":
        straight = graph.hold(mul(graph, cast(graph, x, 4), tables[0]))
        crossed = graph.hold(mul(graph, cast(graph, rotate_half(graph, x), 4), tables[1]))
        return cast(graph, add(graph, straight, crossed), x.each)
    if kind == "float":
        return cast(graph, _whole(graph, cast(graph, x, 4), tables), x.each)
    turned = graph.hold(_whole(graph, x, tables))
    return cast(graph, turned, x.each) if kind == "float_tables" else turned


@framed
def _in_part(graph: Graph, x: Value, tables: Tables, kind: Rotary, rotated: str) -> Value:
    """Some columns of each head turned, the rest (which may be none) put back behind them."""
    if kind == "partial_cat":
        return join_parts(graph, (_whole(graph, x, tables), "none"), x)
    return join_parts(graph, in_part(graph, x, tables, rotated), x)


@framed
def in_part(graph: Graph, x: Value, tables: Tables, rotated: str) -> tuple[Value, str]:
    """The columns of each head that are turned, and the name of the dimension that is not."""
    return _whole(graph, piece(graph, x, (*x.dims[:-1], rotated)), tables), f"{x.dims[-1]} rest"


@framed
def gathered(graph: Graph, q: Value, k: Value, named: SharedShelf) -> tuple[Value, Value]:
    """GPT-J: each layer copies its own table of positions (float32), gathers the rows of these, and writes sin and cos
    out pairwise for k, then for q. All but those have a name in the layer's forward and join `named`.
    """
    rows = ("s", "rotated")
    named.put(graph.new(4, ("positions", "rot")))
    named.put(graph.new(8, rows))
    named.put(cast(graph, Value(graph.new(4, rows), 4, rows), k.each))
    parts = []
    for x, rotated in ((k, "k rot"), (q, "q rot")):
        sin, cos = graph.hold(tuple(Value(graph.new(x.each, rows), x.each, rows) for _ in ("sin", "cos")))
        parts.append(graph.hold(in_part(graph, x, (cos, sin), rotated)))
        graph.release(sin, cos)
    named.put(parts)
    k = graph.replace(k, join_parts(graph, parts[0], k))
    return join_parts(graph, parts[1], q), k


@framed
def join_parts(graph: Graph, parts: tuple[Value, str], x: Value) -> Value:
    """Both again in one tensor."""
    turned, rest = parts
    return concatenate(graph, (turned, piece(graph, x, (*x.dims[:-1], rest))), x.dims)


@framed
def _whole(graph: Graph, x: Value, tables: Tables) -> Value:
    """`x * cos + rotate_half(x) * sin`. Nothing but the tables is saved."""
    straight = mul(graph, x, tables[0])
    crossed = mul(graph, rotate_half(graph, x), tables[1])
    return add(graph, straight, crossed)


@framed
def rotate_half(graph: Graph, x: Value) -> Value:
    """`cat((-x2, x1))`. Its backward fills a whole tensor per half (slice_backward) and adds the two."""
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        negated = graph.new(each, dims, den=2)
        second = graph.new(each, dims)
        graph.release(negated)
        return (edge_in, second), (edge_in, graph.new(each, dims))

    edge = graph.node(backward) if graph.needs(x) else None
    negated = graph.new(each, dims, den=2)
    out = graph.new(each, dims)
    graph.release(negated)
    return Value(out, each, dims, edge)
