"""Rotary embeddings of pairs of columns: interleaved (DeepSeek V3), and as complex numbers (DeepSeek V2, Llama 4)."""

from planner.step.engine.graph import Buffer, Dims, Graph, Outcome, Value, framed
from planner.step.engine.ops import add, cast, mul
from planner.step.engine.slice_ops import concatenate, piece, split

Tables = tuple[Value, Value]


@framed
def interleaved_pairs(graph: Graph, x: Value, tables: Tables, half: Dims) -> Value:
    """`cat([x1 cos - x2 sin, x2 cos + x1 sin])` of the even and odd columns (apply_rotary_pos_emb_interleave)."""
    return _turned(graph, (piece(graph, x, half), piece(graph, x, half)), tables, x.dims)


@framed
def halves(graph: Graph, x: Value, tables: Tables, half: Dims) -> Value:
    """The same of the first and second half, cut by `chunk` (gpt-oss, _apply_rotary_emb)."""
    first, second = graph.hold(split(graph, x, (half, half)))
    return _turned(graph, (first, second), tables, x.dims)


@framed
def _turned(graph: Graph, x: tuple[Value, Value], tables: Tables, dims: Dims) -> Value:
    first = subtract(graph, mul(graph, x[0], tables[0]), mul(graph, x[1], tables[1]))
    second = add(graph, mul(graph, x[1], tables[0]), mul(graph, x[0], tables[1]))
    return concatenate(graph, (first, second), dims)


@framed
def subtract(graph: Graph, a: Value, b: Value) -> Value:
    """`a - b`: the second gradient is negated, a copy."""
    each, dims = a.each, a.dims
    if not graph.needs(a, b):
        return Value(graph.new(each, dims), each, dims)
    edges = (a.edge, b.edge)

    def backward(grad: Buffer) -> Outcome:
        return (edges[0], grad), (edges[1], graph.new(each, dims))

    edge = graph.node(backward)
    return Value(graph.new(each, dims), each, dims, edge)


@framed
def complex_pairs(graph: Graph, q: Value, k: Value, tables: Tables) -> tuple[Value, Value]:
    """`view_as_real(view_as_complex(x.float()) * freqs)` cast back, for both (apply_rotary_emb of V2 and Llama 4).

    The table is one complex tensor, as large as cos and sin together.
    """
    wide_q, wide_k = graph.hold((cast(graph, q, 4), cast(graph, k, 4)))
    out_q = cast(graph, _times(graph, wide_q, tables), q.each)
    out_k = cast(graph, _times(graph, wide_k, tables), k.each)
    return out_q, out_k


@framed
def _times(graph: Graph, x: Value, tables: Tables) -> Value:
    """A complex product, 4 bytes per column; backward copies the gradient in order and conjugates the factors."""
    if not graph.needs(x):
        return Value(graph.new(4, x.dims), 4, x.dims)
    edge_in, dims = x.edge, x.dims

    def backward(_: Buffer) -> Outcome:
        ordered = graph.new(4, dims)
        out = graph.new(4, dims)
        graph.release(ordered)
        return ((edge_in, out),)

    edge = graph.node(backward, graph.save(*tables))
    return Value(graph.new(4, dims), 4, dims, edge)
