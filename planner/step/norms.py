"""Normalisations as the modelling code writes them: which copy is float32, which is saved."""

from collections.abc import Callable

from planner.families.parts import Norm
from planner.step.engine.cards import new_tensor
from planner.step.engine.gradients import later
from planner.step.engine.graph import Buffer, Edge, Graph, Outcome, Value, framed
from planner.step.engine.ops import GRADIENTS, cast, cast_later, mul, parameter, shift, square, summed_over_rows
from planner.step.engine.widths import promoted
from planner.step.liger_models import LEFT_NORMS
from planner.step.switches import Switches


@framed
def norm(graph: Graph, part: Norm, x: Value, switches: Switches, cause: str = "norms") -> Value:
    """Trace one normalisation of `x`."""
    held, trained = switches.held(part.name), switches.trains(part.name)
    with graph.cause(cause):
        if part.kind == "layer":
            if not switches.autocast:
                return layer_norm(graph, x, part, held if trained else None)
            wide = cast(graph, x, 4)
            gains = [graph.new(4, (part.width,)) for _ in "wb"] if held != 4 else []
            return layer_norm(graph, wide, part, held if trained else None, *gains)
        if part.kind == "layer_float":
            return cast(graph, layer_norm(graph, cast(graph, x, 4), part, held if trained else None), x.each)
        head = part.name.startswith("self_attn.")
        patched = (part.weight or part.kind != "rms_float") and part.name.rpartition(".")[2] not in LEFT_NORMS
        if switches.liger.rms_norm and patched and (switches.liger_head_norms or not head):
            return _liger(graph, x, part.width, held if trained else None, in_place=switches.liger_in_place)
        weight = parameter(held, (*part.stored_per, part.width), trained=trained)
        if part.kind == "cohere":
            return _cohere(graph, x, weight)
        return _rms_float(graph, part, x, weight) if part.kind == "rms_float" else _rms(graph, part, x, weight)


@framed
def _liger(graph: Graph, x: Value, width: str, trained: int | None, *, in_place: bool) -> Value:
    """Saves x itself, its weight and one float32 per row; the gradient overwrites the incoming one or not.

    Source: liger_kernel/ops/rms_norm.py.

    `trained`: bytes per element of a weight that is; each multiprocessor then sums its part of the gradient.
    """
    out, rstd = graph.hold((graph.new(x.each, x.dims), graph.new(4, x.dims[:-1])))
    if not graph.needs(x) and not trained:
        return Value(out, x.each, x.dims)
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(grad: Buffer) -> Outcome:
        partial = graph.new(4, ("multiprocessors", width)) if trained else None
        to_x = grad if in_place else graph.new(each, dims)
        summed = graph.hold(graph.new(4, (width,), GRADIENTS) if trained else None)
        weight = graph.new(trained, (width,), GRADIENTS) if trained and trained != 4 else summed
        graph.release(partial)
        return (Edge(leaf=True) if trained else None, weight), (edge_in, to_x)

    return Value(out, x.each, x.dims, graph.node(backward, graph.save(x, None, rstd)))


@framed
def layer_norm(graph: Graph, x: Value, part: Norm, trained: int | None, *gains: Buffer) -> Value:
    """`native_layer_norm`: saves its input, and mean and 1/std per row in float32.

    Under CUDA autocast it runs in float32 and returns float32 (autocast_mode.h), so the input is a float32 copy, and
    `gains` are those of weight and bias. `trained`: bytes per element of a weight that is, to which its gradient is
    cast.
    """
    if not graph.needs(x) and not (trained and graph.recording):
        out, rows = graph.new(x.each, x.dims), (graph.new(4, x.dims[:-1]), graph.new(4, x.dims[:-1]))
        graph.release(rows)
        return Value(out, x.each, x.dims)
    edge_in, each, dims = x.edge, x.each, x.dims
    learns = trained and part.weight

    def of_gain() -> Buffer | Callable[[], Buffer]:
        if trained in {each, None}:
            return graph.new(each, (part.width,), GRADIENTS)
        return later(graph.new(each, (part.width,)), lambda: graph.new(trained, (part.width,), GRADIENTS))

    def backward(_: Buffer) -> Outcome:
        grads: list[tuple[Edge | None, Buffer | Callable[[], Buffer] | None]] = []
        if edge_in:
            grads.append((edge_in, graph.new(each, dims)))
        if learns:
            grads += [(Edge(leaf=True), of_gain()) for _ in "wb"]
        return tuple(grads)

    saved = graph.save(x, *gains)
    out = graph.new(x.each, x.dims)
    mean, rstd = graph.new(4, x.dims[:-1]), graph.new(4, x.dims[:-1])
    return Value(out, each, dims, graph.node(backward, saved + graph.save(mean, rstd)))


@framed
def _rms(graph: Graph, part: Norm, x: Value, weight: Value) -> Value:
    """LlamaRMSNorm and its kin: keeps the float32 copy (4·T·h) and one float32 per token for its backward."""
    if part.kind == "rms_gemma":
        return _rms_gemma(graph, x, weight)
    wide = graph.hold(cast(graph, x, 4))
    variance = graph.hold(mean(graph, square(graph, wide)))
    scaled = graph.hold(mul_rows(graph, wide, inverse_root_of(graph, variance)))
    graph.release(wide)
    if not part.weight:
        return cast(graph, scaled, x.each)
    if part.kind == "rms":
        return scale_by_weight(graph, cast(graph, scaled, x.each), weight)
    if part.kind == "rms_wide":
        weight = graph.replace(weight, cast(graph, weight, 4))
    return cast(graph, scale_by_weight(graph, scaled, weight), x.each)


@framed
def _rms_gemma(graph: Graph, x: Value, weight: Value) -> Value:
    """GemmaRMSNorm: the variance has no name, and what is scaled by the weight takes the name of what was not."""
    wide = graph.hold(cast(graph, x, 4))
    out = mul_rows(graph, wide, inverse_root_of(graph, mean(graph, square(graph, wide))))
    graph.release(wide)
    out = scale_by_weight(graph, out, _one_plus(graph, weight), weight_last=True)
    return cast(graph, out, x.each)


@framed
def _rms_float(graph: Graph, part: Norm, x: Value, weight: Value) -> Value:
    """Gemma4RMSNorm: the same in float32 throughout, with `pow(mean + eps, -0.5)`.

    What is raised has a name until its row is scaled; `pow` saves it, and its backward is as `square`'s.
    """
    wide = graph.hold(cast(graph, x, 4))
    mean_squared = graph.hold(shift(graph, mean(graph, square(graph, wide))))
    scaled = mul_rows(graph, wide, square(graph, mean_squared))
    graph.release(wide, mean_squared)
    if part.weight:
        scaled = scale_by_weight(graph, scaled, cast(graph, weight, 4), weight_last=True)
    return cast(graph, scaled, x.each)


def _one_plus(graph: Graph, weight: Value) -> Value:
    """`1.0 + weight.float()`: a float32 copy of the weight, saved for the input's gradient."""
    wide = cast(graph, weight, 4)
    return new_tensor(graph, wide, 4, weight.dims, passes=True)


@framed
def _cohere(graph: Graph, x: Value, weight: Value) -> Value:
    """CohereLayerNorm: mean and variance by hand, `x - mean` made twice, the weight cast to float32."""
    wide = graph.hold(cast(graph, x, 4))
    middle = graph.hold(mean(graph, wide))
    variance = graph.hold(mean(graph, square(graph, minus_rows(graph, wide, middle))))
    scaled = graph.hold(mul_rows(graph, minus_rows(graph, wide, middle), inverse_root_of(graph, variance)))
    graph.release(wide)
    scaled = graph.replace(scaled, scale_by_weight(graph, scaled, cast(graph, weight, 4)))
    return cast(graph, scaled, x.each)


@framed
def minus_rows(graph: Graph, x: Value, rows: Value) -> Value:
    """`x - rows`, one number per row; the number's gradient is a negated copy before it is summed."""
    each, dims = x.each, x.dims
    if not graph.needs(x, rows):
        return Value(graph.new(each, dims), each, dims)
    x_edge, row_edge, row_dims = x.edge, rows.edge, rows.dims

    def backward(grad: Buffer) -> Outcome:
        negated = graph.new(each, dims)
        summed = graph.new(each, row_dims)
        graph.release(negated)
        return (row_edge, summed), (x_edge, grad)

    return Value(graph.new(each, dims), each, dims, graph.node(backward))


@framed
def scale_by_weight(graph: Graph, x: Value, weight: Value, *, weight_last: bool = False) -> Value:
    """`weight * x`, the weight broadcast over tokens; a trained weight saves x and sums its gradient.

    `weight_last`: it is written `x * weight`. The gradient of the last is made first (MulBackward0::apply).
    """
    if weight.edge is None:
        return mul(graph, x, weight)
    each, dims = promoted(x.each, weight.each), x.dims
    x_edge, w_edge, own, width, shape = x.edge, weight.edge, weight.each, x.each, weight.dims

    def to_weight() -> Callable[[], Buffer]:
        tag = GRADIENTS if w_edge and w_edge.leaf else ""
        return summed_over_rows(graph, graph.new(each, dims), dims, lambda: graph.new(own, shape, tag))

    def to_x() -> Buffer | Callable[[], Buffer] | None:
        return cast_later(graph, graph.new(each, dims), dims, each=each, own=width) if x_edge else None

    def backward(_: Buffer) -> Outcome:
        if weight_last:
            summed = to_weight()
            return (x_edge, to_x()), (w_edge, summed)
        cast_back = to_x()
        return (w_edge, to_weight()), (x_edge, cast_back)

    saved = graph.save(x, weight) if x_edge else graph.save(x)
    edge = graph.node(backward, saved)
    return Value(graph.new(each, dims), each, dims, edge)


def mean(graph: Graph, x: Value) -> Value:
    """`x.mean(-1, keepdim=True)`, one number per row; the gradient is spread over the row and divided."""
    return new_tensor(graph, x, x.each, x.dims[:-1])


@framed
def inverse_root_of(graph: Graph, x: Value) -> Value:
    """`torch.rsqrt(x + eps)`, saves its output; one number per row."""
    edge_in, each, dims = x.edge, x.each, x.dims
    graph.hold(graph.new(each, dims))  # x + eps
    if not graph.needs(x):
        return Value(graph.new(each, dims), each, dims)

    def backward(_: Buffer) -> Outcome:
        cubed, scaled = (graph.new(each, dims), graph.new(each, dims))
        out = graph.new(each, dims)
        graph.release(cubed, scaled)
        return ((edge_in, out),)

    out = graph.hold(graph.new(each, dims))
    return Value(out, each, dims, graph.node(backward, graph.save(out)))


@framed
def mul_rows(graph: Graph, x: Value, rows: Value) -> Value:
    """`x * rows`, one factor per row; the factor's gradient is a full product before it is summed.

    Each is saved for the other's gradient, where one is wanted. A narrower x gets its gradient cast back.
    """
    each, dims = promoted(x.each, rows.each), x.dims
    if not graph.needs(x, rows):
        return Value(graph.new(each, dims), each, dims)
    x_edge, row_edge, row_dims, own = x.edge, rows.edge, rows.dims, x.each

    def to_rows() -> Callable[[], Buffer] | None:
        return later(graph.new(each, dims), lambda: graph.new(each, row_dims)) if row_edge else None

    def to_x() -> Buffer | Callable[[], Buffer] | None:
        return cast_later(graph, graph.new(each, dims), dims, each=each, own=own) if x_edge else None

    def backward(_: Buffer) -> Outcome:
        summed = to_rows()
        return (x_edge, to_x()), (row_edge, summed)

    saved = (graph.save(rows) if x_edge else []) + (graph.save(x) if row_edge else [])
    return Value(graph.new(each, dims), each, dims, graph.node(backward, saved))
