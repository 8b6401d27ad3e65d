"""Normalisations as the modelling code writes them: which copy is float32, which is saved."""

from planner.families.parts import Norm
from planner.timeline.ops import GRADIENTS, cast, let_go, mul, parameter, shift, square
from planner.timeline.switches import Switches
from planner.timeline.tape import Buffer, Edge, Outcome, Tape, Value


def norm(tape: Tape, part: Norm, x: Value, switches: Switches, cause: str = "norms") -> Value:
    """Walk one normalisation of `x`."""
    held, trained = switches.residual, switches.trains_base
    with tape.cause(cause):
        if part.kind == "layer":
            if not switches.autocast:
                return _layer(tape, x, part, trained)
            wide = cast(tape, x, 4)
            gains = [tape.new(4, (part.width,)) for _ in "wb"] if held != 4 else []
            return _layer(tape, wide, part, trained, *gains)
        if part.kind == "layer_float":
            return cast(tape, _layer(tape, cast(tape, x, 4), part, trained), x.each)
        head = part.name.startswith("self_attn.")
        patched = part.weight or part.kind != "rms_float"
        if switches.liger and patched and (switches.liger_head_norms or not head):
            return _liger(tape, x, part.width, held if trained else None, in_place=switches.liger_in_place)
        weight = parameter(held, (*part.stored_per, part.width), trained=trained)
        if part.kind == "cohere":
            return _cohere(tape, x, weight)
        return _rms_float(tape, part, x, weight) if part.kind == "rms_float" else _rms(tape, part, x, weight)


def _liger(tape: Tape, x: Value, width: str, trained: int | None, *, in_place: bool) -> Value:
    """Saves x itself and one float32 per row; the gradient overwrites the incoming one or not (ops/rms_norm.py).

    `trained`: bytes per element of a weight that is; each multiprocessor then sums its part of the gradient.
    """
    out, rstd = tape.new(x.each, x.dims), tape.new(4, x.dims[:-1])
    if not tape.needs(x) and not trained:
        return Value(out, x.each, x.dims)
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(grad: Buffer) -> Outcome:
        partial = tape.new(4, ("multiprocessors", width)) if trained else None
        to_x = grad if in_place else tape.new(each, dims)
        summed = tape.new(4, (width,), GRADIENTS) if trained else None
        weight = tape.new(trained, (width,), GRADIENTS) if trained and trained != 4 else summed
        del partial
        return (Edge(leaf=True) if trained else None, weight), (edge_in, to_x)

    return Value(out, x.each, x.dims, tape.node(backward, tape.save(x, rstd)))


def _layer(tape: Tape, x: Value, part: Norm, trained: bool, *gains: Buffer) -> Value:
    """`native_layer_norm`: saves its input, and mean and 1/std per row in float32.

    Under CUDA autocast it runs in float32 and returns float32 (autocast_mode.h), so the input is a float32 copy, and
    `gains` are those of weight and bias.
    """
    if not tape.needs(x) and not (trained and tape.recording):
        out, rows = tape.new(x.each, x.dims), (tape.new(4, x.dims[:-1]), tape.new(4, x.dims[:-1]))
        del rows
        return Value(out, x.each, x.dims)
    edge_in, each, dims = x.edge, x.each, x.dims
    learns = trained and part.weight

    def backward(_: Buffer) -> Outcome:
        grads: list[tuple[Edge | None, Buffer | None]] = []
        if edge_in:
            grads.append((edge_in, tape.new(each, dims)))
        if learns:
            grads += [(Edge(leaf=True), tape.new(each, (part.width,), GRADIENTS)) for _ in "wb"]
        return tuple(grads)

    saved = tape.save(x, *gains)
    out = tape.new(x.each, x.dims)
    mean, rstd = tape.new(4, x.dims[:-1]), tape.new(4, x.dims[:-1])
    return Value(out, each, dims, tape.node(backward, saved + tape.save(mean, rstd)))


def _rms(tape: Tape, part: Norm, x: Value, weight: Value) -> Value:
    """LlamaRMSNorm and its kin: keeps the float32 copy (4·T·h) and one float32 per token for its backward."""
    wide = cast(tape, x, 4)
    variance = mean(tape, square(tape, wide))
    scaled = mul_rows(tape, wide, inverse_root_of(tape, variance))
    del wide
    if not part.weight:
        return cast(tape, scaled, x.each)
    if part.kind == "rms":
        return scale_by_weight(tape, cast(tape, scaled, x.each), weight)
    if part.kind == "rms_gemma":
        weight = _one_plus(tape, weight)
    if part.kind == "rms_wide":
        weight = cast(tape, weight, 4)
    return cast(tape, scale_by_weight(tape, scaled, weight), x.each)


def _rms_float(tape: Tape, part: Norm, x: Value, weight: Value) -> Value:
    """Gemma4RMSNorm: the same in float32 throughout, with `pow(mean + eps, -0.5)`."""
    wide = cast(tape, x, 4)
    scaled = mul_rows(tape, wide, _inverse_root(tape, mean(tape, square(tape, wide))))
    del wide
    if part.weight:
        scaled = scale_by_weight(tape, scaled, cast(tape, weight, 4))
    return cast(tape, scaled, x.each)


def _inverse_root(tape: Tape, x: Value) -> Value:
    """`pow(x + eps, -0.5)` saves what it was given, not what it made; backward as `square`'s."""
    each, dims = x.each, x.dims
    if not tape.needs(x):
        shifted = tape.new(each, dims)
        out = Value(tape.new(each, dims), each, dims)
        del shifted
        return out
    return square(tape, shift(tape, x))


def _one_plus(tape: Tape, weight: Value) -> Value:
    """`1.0 + weight.float()`: a float32 copy of the weight, saved for the input's gradient."""
    wide = cast(tape, weight, 4)
    edge_in = wide.edge

    def backward(grad: Buffer) -> Outcome:
        return ((edge_in, grad),)

    edge = tape.node(backward) if tape.needs(wide) else None
    return Value(tape.new(4, weight.dims), 4, weight.dims, edge)


def _cohere(tape: Tape, x: Value, weight: Value) -> Value:
    """CohereLayerNorm: mean and variance by hand, `x - mean` made twice, the weight cast to float32."""
    wide = cast(tape, x, 4)
    middle = mean(tape, wide)
    variance = mean(tape, square(tape, _minus_rows(tape, wide, middle)))
    scaled = mul_rows(tape, _minus_rows(tape, wide, middle), inverse_root_of(tape, variance))
    del wide
    scaled = scale_by_weight(tape, scaled, cast(tape, weight, 4))
    return cast(tape, scaled, x.each)


def _minus_rows(tape: Tape, x: Value, rows: Value) -> Value:
    """`x - rows`, one number per row; the number's gradient is a negated copy before it is summed."""
    each, dims = x.each, x.dims
    if not tape.needs(x, rows):
        return Value(tape.new(each, dims), each, dims)
    x_edge, row_edge, row_dims = x.edge, rows.edge, rows.dims

    def backward(grad: Buffer) -> Outcome:
        negated = tape.new(each, dims)
        summed = tape.new(each, row_dims)
        del negated
        return (row_edge, summed), (x_edge, grad)

    return Value(tape.new(each, dims), each, dims, tape.node(backward))


def scale_by_weight(tape: Tape, x: Value, weight: Value) -> Value:
    """`weight * x`, the weight broadcast over tokens; a trained weight saves x and sums its gradient."""
    if weight.edge is None:
        return mul(tape, x, weight)
    each, dims = max(x.each, weight.each), x.dims
    x_edge, w_edge, own, width, shape = x.edge, weight.edge, weight.each, x.each, weight.dims

    def backward(_: Buffer) -> Outcome:
        to_weight = tape.new(each, dims)
        to_x = tape.new(each, dims) if x_edge else None
        summed = tape.new(own, shape, GRADIENTS if w_edge and w_edge.leaf else "")
        del to_weight
        if to_x and width != each:
            to_x = tape.new(width, dims)
        return (w_edge, summed), (x_edge, to_x)

    edge = tape.node(backward, tape.save(x, weight))
    return Value(tape.new(each, dims), each, dims, edge)


def mean(tape: Tape, x: Value) -> Value:
    """`x.mean(-1, keepdim=True)`, one number per row; the gradient is spread over the row and divided."""
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, tape.new(each, dims)),)

    edge = tape.node(backward) if tape.needs(x) else None
    return Value(tape.new(each, dims[:-1]), each, dims[:-1], edge)


def inverse_root_of(tape: Tape, x: Value) -> Value:
    """`torch.rsqrt(x + eps)`, saves its output; one number per row."""
    edge_in, each, dims = x.edge, x.each, x.dims
    shifted = tape.new(each, dims)
    if not tape.needs(x):
        return Value(tape.new(each, dims), each, dims)

    def backward(_: Buffer) -> Outcome:
        cubed, scaled = tape.new(each, dims), tape.new(each, dims)
        out = tape.new(each, dims)
        del cubed, scaled
        return ((edge_in, out),)

    out = tape.new(each, dims)
    del shifted
    return Value(out, each, dims, tape.node(backward, tape.save(out)))


def mul_rows(tape: Tape, x: Value, rows: Value) -> Value:
    """`x * rows`, one factor per row; the factor's gradient is a full product before it is summed.

    A narrower x gets its gradient cast back.
    """
    each, dims = max(x.each, rows.each), x.dims
    if not tape.needs(x, rows):
        return Value(tape.new(each, dims), each, dims)
    x_edge, row_edge, row_dims, own = x.edge, rows.edge, rows.dims, x.each

    def backward(_: Buffer) -> Outcome:
        product = tape.new(each, dims)
        to_x = tape.new(each, dims)
        if own != each:
            let_go(saved)
            to_x = tape.new(own, dims)
        summed = tape.new(each, row_dims)
        del product
        return (row_edge, summed), (x_edge, to_x)

    saved = tape.save(rows, x)
    edge = tape.node(backward, saved)
    return Value(tape.new(each, dims), each, dims, edge)
