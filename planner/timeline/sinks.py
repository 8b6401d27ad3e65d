"""Eager attention with a learned sink per head (gpt-oss): one more column of scores, which the softmax absorbs.

Source: transformers 5.23 models/gpt_oss/modeling_gpt_oss.py, eager_attention_forward; no other kernel of torch's takes
sinks (_supports_sdpa = False).
"""

from planner.timeline.attend import SCORES, repeat, softmax
from planner.timeline.ops import add, bmm, cast, clone, unary
from planner.timeline.pieces import piece
from planner.timeline.tape import Buffer, Outcome, Tape, Value

_SCORES = ("T", "H", "s")
_WIDE = ("T", "H", "s+1")
_ROWS = ("T", "H")


def attend_with_sinks(
    tape: Tape, qkv: tuple[Value, Value, Value], mask: Value | None, autocast: int
) -> tuple[Value, Value]:
    """Scores and sinks in the matmul's dtype throughout, softmax included; the result, and the weights in v's dtype."""
    q, k, v = qkv[0], repeat(tape, qkv[1]), repeat(tape, qkv[2])
    with tape.cause(SCORES):
        scores = unary(tape, _product(tape, q, k, _SCORES, autocast))
        if mask is not None:
            scores = add(tape, scores, mask)
        combined = _less_maximum(tape, _with_sinks(tape, scores))
        probabilities = softmax(tape, combined)
        scores = cast(tape, piece(tape, probabilities, _SCORES), v.each)
        out = clone(tape, _product(tape, scores, v, q.dims, autocast))
        del combined
        return out, scores


def _product(tape: Tape, a: Value, b: Value, dims: tuple[str, ...], autocast: int) -> Value:
    if autocast:
        a, b = cast(tape, a, autocast), cast(tape, b, autocast)
    return bmm(tape, a, b, dims)


def _with_sinks(tape: Tape, x: Value) -> Value:
    """`cat([scores, sinks])`; backward hands out a view of the gradient."""
    edge_in, each = x.edge, x.each
    if not tape.needs(x):
        return Value(tape.new(each, _WIDE), each, _WIDE)

    def backward(grad: Buffer) -> Outcome:
        return ((edge_in, grad),)

    edge = tape.node(backward)
    return Value(tape.new(each, _WIDE), each, _WIDE, edge)


def _less_maximum(tape: Tape, x: Value) -> Value:
    """`x - x.max(-1)`; the maximum saves where it was, and its gradient is scattered back there."""
    edge_in, each = x.edge, x.each
    maximum, index = tape.new(each, _ROWS), tape.new(8, _ROWS)
    if not tape.needs(x):
        return Value(tape.new(each, _WIDE), each, _WIDE)

    def from_maximum(_: Buffer) -> Outcome:
        return ((edge_in, tape.new(each, _WIDE)),)

    inner = tape.node(from_maximum, tape.save(index))

    def from_difference(grad: Buffer) -> Outcome:
        negated = tape.new(each, _WIDE)
        summed = tape.new(each, _ROWS)
        del negated
        return (edge_in, grad), (inner, summed)

    edge = tape.node(from_difference)
    out = tape.new(each, _WIDE)
    del maximum
    return Value(out, each, _WIDE, edge)
