"""xIELU as transformers writes it out where its own kernel is not installed (Apertus).

Source: transformers 5.23 activations.py XIELUActivation._xielu_python; expm1 runs in float32 under autocast.
"""

from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed
from planner.step.engine.ops import GRADIENTS, add, cast, mul, parameter
from planner.step.engine.widths import promoted
from planner.step.norms import scale_by_weight
from planner.step.switches import Switches


@framed
def xielu(graph: Graph, x: Value, switches: Switches) -> Value:
    """`where(x > 0, αp·x·x + β·x, (expm1(min(x, ε)) - x)·αn + β·x)`.

    αp and αn have one element each, in x's dtype, or in float32, which autocast runs their softplus in. What it gives
    is saved with each product; where they are trained, what they multiply is saved, too, and the gradient is a full
    product before it is summed.
    """
    autocast = switches.autocast
    alpha_p, alpha_n = graph.hold(
        tuple(_softplus(graph, 4 if autocast else x.each, switches) for _ in ("positive", "negative"))
    )
    beta = Value(None, 2, ())
    positive = graph.hold(graph.new(1, x.dims))
    squared = graph.hold(mul(graph, scale_by_weight(graph, x, alpha_p), x))
    right = graph.hold(add(graph, squared, mul(graph, x, beta)))
    graph.release(squared)
    smaller = graph.hold(_minimum(graph, x))
    bent = graph.hold(_expm1(graph, cast(graph, smaller, 4) if autocast else smaller))
    graph.release(smaller)
    lower = graph.hold(_subtract(graph, bent, x))
    graph.release(bent)
    scaled = graph.hold(scale_by_weight(graph, lower, alpha_n))
    graph.release(lower)
    left = graph.hold(add(graph, scaled, mul(graph, x, beta)))
    graph.release(scaled)
    return _where(graph, positive, right, left)


@framed
def _softplus(graph: Graph, each: int, switches: Switches) -> Value:
    """`softplus(weight)` of one element."""
    out = graph.hold(graph.new(each, ("one",)))
    if not switches.trains_base:
        return Value(out, each, ("one",))
    weight, own = parameter(each, ("one",), trained=True), switches.residual

    def backward(_: Buffer) -> Outcome:
        return ((weight.edge, graph.new(own, ("one",), GRADIENTS)),)

    return Value(out, each, ("one",), graph.node(backward))


@framed
def _minimum(graph: Graph, x: Value) -> Value:
    """`torch.min(x, ε)`: its backward halves ties with two masks."""
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        halved = graph.hold(graph.new(each, dims))
        equal = graph.hold(graph.new(1, dims))
        out = graph.hold(graph.new(each, dims))
        larger = graph.hold(graph.new(1, dims))
        graph.release(halved, equal, larger)
        return ((edge_in, out),)

    edge = graph.node(backward, graph.save(x)) if graph.needs(x) else None
    return Value(graph.new(each, dims), each, dims, edge)


@framed
def _expm1(graph: Graph, x: Value) -> Value:
    edge_in, each, dims = x.edge, x.each, x.dims
    out = graph.hold(graph.new(each, dims))
    if not graph.needs(x):
        return Value(out, each, dims)

    def backward(_: Buffer) -> Outcome:
        raised = graph.hold(graph.new(each, dims))
        grad = graph.hold(graph.new(each, dims))
        graph.release(raised)
        return ((edge_in, grad),)

    return Value(out, each, dims, graph.node(backward, graph.save(out)))


@framed
def _subtract(graph: Graph, a: Value, b: Value) -> Value:
    each, dims = promoted(a.each, b.each), a.dims
    if not graph.needs(a, b):
        return Value(graph.new(each, dims), each, dims)
    a_edge, b_edge, b_each = a.edge, b.edge, b.each

    def backward(grad: Buffer) -> Outcome:
        negated = graph.hold(graph.new(each, dims))
        if b_each != each:
            negated = graph.replace(negated, graph.new(b_each, dims))
        return (a_edge, grad), (b_edge, negated)

    edge = graph.node(backward)
    return Value(graph.new(each, dims), each, dims, edge)


@framed
def _where(graph: Graph, condition: Buffer, a: Value, b: Value) -> Value:
    each, dims = promoted(a.each, b.each), a.dims
    if not graph.needs(a, b):
        return Value(graph.new(each, dims), each, dims)
    edges = (a.edge, b.edge)

    def backward(_: Buffer) -> Outcome:
        return tuple((edge, graph.new(each, dims)) for edge in edges)

    edge = graph.node(backward, graph.save(condition))
    return Value(graph.new(each, dims), each, dims, edge)
