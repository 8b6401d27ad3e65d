"""How the two halves of an expert's first product become one."""

from planner.timeline.mlps import activation
from planner.timeline.ops import mul, unary
from planner.timeline.pieces import piece, split
from planner.timeline.tape import Buffer, Dims, Outcome, Tape, Value


def gate(tape: Tape, act: str, x: Value, inner: Dims, autocast: int) -> Value:
    """`act(gate) * up`."""
    if act == "gpt_oss":
        return _clamped_swish(tape, x, inner)
    first, up = split(tape, x, (inner, inner))
    del x
    return mul(tape, activation(tape, act, first, autocast), up)


def _clamped_swish(tape: Tape, x: Value, inner: Dims) -> Value:
    """`(clamp(up) + 1) * gate * sigmoid(alpha * gate)` of every other column (GptOssExperts._apply_gate)."""
    first, up = piece(tape, x, inner), piece(tape, x, inner)
    first, up = _clamp(tape, first, sides=1), _clamp(tape, up, sides=2)
    swish = mul(tape, first, unary(tape, unary(tape, first), saves="output"))
    result = mul(tape, unary(tape, up), swish)
    del first, up, swish
    return result


def _clamp(tape: Tape, x: Value, *, sides: int) -> Value:
    """Saves its input; backward compares once per side, a byte per element."""
    if not tape.needs(x):
        return Value(tape.new(x.each, x.dims), x.each, x.dims)
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        masks = [tape.new(1, dims) for _ in range(sides)]
        out = tape.new(each, dims)
        del masks
        return ((edge_in, out),)

    edge = tape.node(backward, tape.save(x))
    return Value(tape.new(each, dims), each, dims, edge)
