"""xIELU as transformers writes it out where its own kernel is not installed (Apertus).

Source: transformers 5.23 activations.py XIELUActivation._xielu_python; expm1 runs in float32 under autocast.
"""

from planner.timeline.norms import scale_by_weight
from planner.timeline.ops import add, cast, mul, parameter
from planner.timeline.switches import Switches
from planner.timeline.tape import Buffer, Outcome, Tape, Value


def xielu(tape: Tape, x: Value, switches: Switches) -> Value:
    """`where(x > 0, αp·x·x + β·x, (expm1(min(x, ε)) - x)·αn + β·x)`.

    αp and αn have one element each, in x's dtype, or in float32, which autocast runs their softplus in. Where they are
    trained, what they multiply is saved, and the gradient is a full product before it is summed.
    """
    autocast = switches.autocast
    alpha = parameter(4 if autocast else x.each, ("one",), trained=switches.trains_base)
    beta = Value(None, 2, ())
    positive = tape.new(1, x.dims)
    squared = mul(tape, scale_by_weight(tape, x, alpha), x)
    right = add(tape, squared, mul(tape, x, beta))
    del squared
    smaller = _minimum(tape, x)
    bent = _expm1(tape, cast(tape, smaller, 4) if autocast else smaller)
    del smaller
    lower = _subtract(tape, bent, x)
    del bent
    scaled = scale_by_weight(tape, lower, alpha)
    del lower
    left = add(tape, scaled, mul(tape, x, beta))
    del scaled
    return _where(tape, positive, right, left)


def _minimum(tape: Tape, x: Value) -> Value:
    """`torch.min(x, ε)`: its backward halves ties with two masks."""
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        halved = tape.new(each, dims)
        equal = tape.new(1, dims)
        out = tape.new(each, dims)
        larger = tape.new(1, dims)
        del halved, equal, larger
        return ((edge_in, out),)

    edge = tape.node(backward, tape.save(x)) if tape.needs(x) else None
    return Value(tape.new(each, dims), each, dims, edge)


def _expm1(tape: Tape, x: Value) -> Value:
    edge_in, each, dims = x.edge, x.each, x.dims
    out = tape.new(each, dims)
    if not tape.needs(x):
        return Value(out, each, dims)

    def backward(_: Buffer) -> Outcome:
        raised = tape.new(each, dims)
        grad = tape.new(each, dims)
        del raised
        return ((edge_in, grad),)

    return Value(out, each, dims, tape.node(backward, tape.save(out)))


def _subtract(tape: Tape, a: Value, b: Value) -> Value:
    each, dims = max(a.each, b.each), a.dims
    if not tape.needs(a, b):
        return Value(tape.new(each, dims), each, dims)
    a_edge, b_edge, b_each = a.edge, b.edge, b.each

    def backward(grad: Buffer) -> Outcome:
        negated = tape.new(each, dims)
        if b_each != each:
            negated = tape.new(b_each, dims)
        return (a_edge, grad), (b_edge, negated)

    edge = tape.node(backward)
    return Value(tape.new(each, dims), each, dims, edge)


def _where(tape: Tape, condition: Buffer, a: Value, b: Value) -> Value:
    each, dims = max(a.each, b.each), a.dims
    if not tape.needs(a, b):
        return Value(tape.new(each, dims), each, dims)
    edges = (a.edge, b.edge)

    def backward(_: Buffer) -> Outcome:
        return tuple((edge, tape.new(each, dims)) for edge in edges)

    edge = tape.node(backward, tape.save(condition))
    return Value(tape.new(each, dims), each, dims, edge)
