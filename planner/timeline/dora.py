"""DoRA: a dense copy of every adapted weight, made anew in each forward.

Source: peft 0.21 tuners/lora/dora.py DoraLinearLayer.forward and tuners/lora/variants.py DoraLinearVariant.
"""

from planner.families.parts import Linear
from planner.timeline.adapters import adapter_matmul
from planner.timeline.norms import scale_by_weight
from planner.timeline.ops import GRADIENTS, add, cast, matmul, parameter, unary
from planner.timeline.switches import Switches
from planner.timeline.tape import Buffer, Edge, Outcome, Tape, Value

DENSE = "DoRA: dense adapter and base weights"


def dora(tape: Tape, switches: Switches, part: Linear, x: Value, result: Value) -> Value:
    """`(m/‖W + BA‖ - 1) · base + m/‖W + BA‖ · scale · B(A(x))`, to be added to the base output."""
    with tape.cause(DENSE):
        start = len(tape.nodes)
        dense = _dense_adapter(tape, switches, part, x)
        end = len(tape.nodes)
        expands = part.quantizable and switches.storage is not None
        weight = (_dense_base if expands else _plain_base)(tape, switches, part, x.each)
        scale = _magnitude_over_norm(tape, part, x.each)
        low = adapter_matmul(tape, switches, x, (part.in_, "r"), part.name)
        high = adapter_matmul(tape, switches, low, ("r", part.out), part.name)
        del low
        if switches.dropout:
            inner, held = x, weight
            if switches.autocast:
                inner, held = cast(tape, x, switches.autocast), cast(tape, weight, switches.autocast)
            result = matmul(tape, inner, held, part.out)
            del inner, held
        left = scale_by_weight(tape, result, _less_one(tape, scale))
        right = unary(tape, scale_by_weight(tape, high, scale))
        out = add(tape, left, right)
        del dense, weight
        tape.forget(slice(start, end))
    return out


def _dense_adapter(tape: Tape, switches: Switches, part: Linear, x: Value) -> Value:
    """B(A(eye(K))) transposed; detached, so its graph dies when the forward has read it."""
    eye = Value(tape.new(switches.adapter, (part.in_, part.in_)), switches.adapter, (part.in_, part.in_))
    low = adapter_matmul(tape, switches, eye, (part.in_, "r"), part.name)
    high = adapter_matmul(tape, switches, low, ("r", part.out), part.name)
    del eye
    return cast(tape, high, x.each)


def _dense_base(tape: Tape, switches: Switches, part: Linear, each: int) -> Value:
    """The 4-bit weight expanded to its own dtype, then to x's."""
    dims = (part.out, part.in_)
    absmax = tape.new(4, dims, den=64) if switches.double_quant else None
    weight = Value(tape.new(switches.expanded, dims), switches.expanded, dims)
    del absmax
    return cast(tape, weight, each)


def _plain_base(tape: Tape, switches: Switches, part: Linear, each: int) -> Value:
    return cast(tape, parameter(switches.residual, (part.out, part.in_)), each)


def _magnitude_over_norm(tape: Tape, part: Linear, each: int) -> Value:
    """`magnitude / ‖W + scale·BA‖` per output row: two dense products that live for one line."""
    dims = (part.out, part.in_)
    scaled = tape.new(each, dims)
    summed = tape.new(each, dims)
    del scaled
    lengths = tape.new(each, (part.out,))
    del summed

    def backward(_: Buffer) -> Outcome:
        return ((Edge(leaf=True), tape.new(4, (part.out,), GRADIENTS)),)

    edge = tape.node(backward, tape.save(lengths)) if tape.recording else None
    return Value(tape.new(4, (part.out,)), 4, (part.out,), edge)


def _less_one(tape: Tape, x: Value) -> Value:
    edge_in = x.edge

    def backward(grad: Buffer) -> Outcome:
        return ((edge_in, grad),)

    edge = tape.node(backward) if tape.needs(x) else None
    return Value(tape.new(x.each, x.dims), x.each, x.dims, edge)
