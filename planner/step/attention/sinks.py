"""Eager attention with a learned sink per head (gpt-oss): one more column of scores, which the softmax absorbs.

Source: transformers 5.23 models/gpt_oss/modeling_gpt_oss.py, eager_attention_forward; no other kernel of torch's takes
sinks (_supports_sdpa = False).
"""

from planner.step.attention.kernels import SCORES, repeat
from planner.step.attention.softmax import softmax
from planner.step.engine.cards import new_tensor
from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed
from planner.step.engine.ops import add, bmm, cast, clone, unary
from planner.step.engine.slice_ops import piece

_SCORES = ("T", "H", "s")
_WIDE = ("T", "H", "s+1")
_ROWS = ("T", "H")


@framed
def attend_with_sinks(
    graph: Graph, qkv: tuple[Value, Value, Value], mask: Value | None, autocast: int
) -> tuple[Value, Value]:
    """Scores and sinks in the matmul's dtype throughout, softmax included; the result, and the weights in v's dtype."""
    q, k, v = graph.hold((qkv[0], repeat(graph, qkv[1]), repeat(graph, qkv[2])))
    with graph.cause(SCORES):
        scores = graph.hold(unary(graph, _product(graph, q, k, _SCORES, autocast)))
        if mask is not None:
            scores = graph.replace(scores, add(graph, scores, mask))
        combined = graph.hold(_less_maximum(graph, _with_sinks(graph, scores)))
        probabilities = graph.hold(softmax(graph, combined))
        scores = graph.replace(scores, cast(graph, piece(graph, probabilities, _SCORES), v.each))
        out = graph.hold(clone(graph, _product(graph, scores, v, q.dims, autocast)))
        graph.release(combined)
        return out, scores


@framed
def _product(graph: Graph, a: Value, b: Value, dims: tuple[str, ...], autocast: int) -> Value:
    if autocast:
        a, b = graph.replace((a, b), (cast(graph, a, autocast), cast(graph, b, autocast)))
    return bmm(graph, a, b, dims)


def _with_sinks(graph: Graph, x: Value) -> Value:
    """`cat([scores, sinks])`; backward hands out a view of the gradient."""
    return new_tensor(graph, x, x.each, _WIDE, passes=True)


@framed
def _less_maximum(graph: Graph, x: Value) -> Value:
    """`x - x.max(-1)`; the maximum saves where it was, and its gradient is scattered back there."""
    edge_in, each = x.edge, x.each
    maximum, index = graph.hold((graph.new(each, _ROWS), graph.new(8, _ROWS)))
    if not graph.needs(x):
        graph.release(index)  # `.values` is all that is taken of the pair
        return Value(graph.new(each, _WIDE), each, _WIDE)

    def from_maximum(_: Buffer) -> Outcome:
        return ((edge_in, graph.new(each, _WIDE)),)

    inner = graph.node(from_maximum, graph.save(index))
    graph.release(index)  # as above

    def from_difference(grad: Buffer) -> Outcome:
        negated = graph.hold(graph.new(each, _WIDE))
        summed = graph.hold(graph.new(each, _ROWS))
        graph.release(negated)
        return (edge_in, grad), (inner, summed)

    edge = graph.node(from_difference)
    out = graph.hold(graph.new(each, _WIDE))
    graph.release(maximum)
    return Value(out, each, _WIDE, edge)
