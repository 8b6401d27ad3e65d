"""Eager attention with a learned sink per head (gpt-oss): one more column of scores, which the softmax absorbs.

Source: transformers 5.23 models/gpt_oss/modeling_gpt_oss.py, eager_attention_forward; no other kernel of torch's takes
sinks (_supports_sdpa = False).
"""

from planner.step.attention.kernels import SCORES, repeat, softmax
from planner.step.engine.graph import Buffer, Graph, Outcome, Value
from planner.step.engine.ops import add, bmm, cast, clone, unary
from planner.step.engine.slice_ops import piece

_SCORES = ("T", "H", "s")
_WIDE = ("T", "H", "s+1")
_ROWS = ("T", "H")


def attend_with_sinks(
    graph: Graph, qkv: tuple[Value, Value, Value], mask: Value | None, autocast: int
) -> tuple[Value, Value]:
    """Scores and sinks in the matmul's dtype throughout, softmax included; the result, and the weights in v's dtype."""
    q, k, v = qkv[0], repeat(graph, qkv[1]), repeat(graph, qkv[2])
    with graph.cause(SCORES):
        scores = unary(graph, _product(graph, q, k, _SCORES, autocast))
        if mask is not None:
            scores = add(graph, scores, mask)
        combined = _less_maximum(graph, _with_sinks(graph, scores))
        probabilities = softmax(graph, combined)
        scores = cast(graph, piece(graph, probabilities, _SCORES), v.each)
        out = clone(graph, _product(graph, scores, v, q.dims, autocast))
        del combined
        return out, scores


def _product(graph: Graph, a: Value, b: Value, dims: tuple[str, ...], autocast: int) -> Value:
    if autocast:
        a, b = cast(graph, a, autocast), cast(graph, b, autocast)
    return bmm(graph, a, b, dims)


def _with_sinks(graph: Graph, x: Value) -> Value:
    """`cat([scores, sinks])`; backward hands out a view of the gradient."""
    edge_in, each = x.edge, x.each
    if not graph.needs(x):
        return Value(graph.new(each, _WIDE), each, _WIDE)

    def backward(grad: Buffer) -> Outcome:
        return ((edge_in, grad),)

    edge = graph.node(backward)
    return Value(graph.new(each, _WIDE), each, _WIDE, edge)


def _less_maximum(graph: Graph, x: Value) -> Value:
    """`x - x.max(-1)`; the maximum saves where it was, and its gradient is scattered back there."""
    edge_in, each = x.edge, x.each
    maximum, index = graph.new(each, _ROWS), graph.new(8, _ROWS)
    if not graph.needs(x):
        del index  # `.values` is all that is taken of the pair
        return Value(graph.new(each, _WIDE), each, _WIDE)

    def from_maximum(_: Buffer) -> Outcome:
        return ((edge_in, graph.new(each, _WIDE)),)

    inner = graph.node(from_maximum, graph.save(index))
    del index  # as above

    def from_difference(grad: Buffer) -> Outcome:
        negated = graph.new(each, _WIDE)
        summed = graph.new(each, _ROWS)
        del negated
        return (edge_in, grad), (inner, summed)

    edge = graph.node(from_difference)
    out = graph.new(each, _WIDE)
    del maximum
    return Value(out, each, _WIDE, edge)
