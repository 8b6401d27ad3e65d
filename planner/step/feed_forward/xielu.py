"""xIELU as transformers writes it out where its own kernel is not installed (Apertus).

Source: transformers 5.23 activations.py XIELUActivation._xielu_python; expm1 runs in float32 under autocast.
"""

from planner.step.engine.graph import Buffer, Graph, Outcome, Value
from planner.step.engine.ops import GRADIENTS, add, cast, mul, parameter
from planner.step.norms import scale_by_weight
from planner.step.switches import Switches


def xielu(graph: Graph, x: Value, switches: Switches) -> Value:
    """`where(x > 0, αp·x·x + β·x, (expm1(min(x, ε)) - x)·αn + β·x)`.

    αp and αn have one element each, in x's dtype, or in float32, which autocast runs their softplus in. What it gives
    is saved with each product; where they are trained, what they multiply is saved, too, and the gradient is a full
    product before it is summed.
    """
    autocast = switches.autocast
    alpha_p, alpha_n = (_softplus(graph, 4 if autocast else x.each, switches) for _ in ("positive", "negative"))
    beta = Value(None, 2, ())
    positive = graph.new(1, x.dims)
    squared = mul(graph, scale_by_weight(graph, x, alpha_p), x)
    right = add(graph, squared, mul(graph, x, beta))
    del squared
    smaller = _minimum(graph, x)
    bent = _expm1(graph, cast(graph, smaller, 4) if autocast else smaller)
    del smaller
    lower = _subtract(graph, bent, x)
    del bent
    scaled = scale_by_weight(graph, lower, alpha_n)
    del lower
    left = add(graph, scaled, mul(graph, x, beta))
    del scaled
    return _where(graph, positive, right, left)


def _softplus(graph: Graph, each: int, switches: Switches) -> Value:
    """`softplus(weight)` of one element."""
    out = graph.new(each, ("one",))
    if not switches.trains_base:
        return Value(out, each, ("one",))
    weight, own = parameter(each, ("one",), trained=True), switches.residual

    def backward(_: Buffer) -> Outcome:
        return ((weight.edge, graph.new(own, ("one",), GRADIENTS)),)

    return Value(out, each, ("one",), graph.node(backward))


def _minimum(graph: Graph, x: Value) -> Value:
    """`torch.min(x, ε)`: its backward halves ties with two masks."""
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        halved = graph.new(each, dims)
        equal = graph.new(1, dims)
        out = graph.new(each, dims)
        larger = graph.new(1, dims)
        del halved, equal, larger
        return ((edge_in, out),)

    edge = graph.node(backward, graph.save(x)) if graph.needs(x) else None
    return Value(graph.new(each, dims), each, dims, edge)


def _expm1(graph: Graph, x: Value) -> Value:
    edge_in, each, dims = x.edge, x.each, x.dims
    out = graph.new(each, dims)
    if not graph.needs(x):
        return Value(out, each, dims)

    def backward(_: Buffer) -> Outcome:
        raised = graph.new(each, dims)
        grad = graph.new(each, dims)
        del raised
        return ((edge_in, grad),)

    return Value(out, each, dims, graph.node(backward, graph.save(out)))


def _subtract(graph: Graph, a: Value, b: Value) -> Value:
    each, dims = max(a.each, b.each), a.dims
    if not graph.needs(a, b):
        return Value(graph.new(each, dims), each, dims)
    a_edge, b_edge, b_each = a.edge, b.edge, b.each

    def backward(grad: Buffer) -> Outcome:
        negated = graph.new(each, dims)
        if b_each != each:
            negated = graph.new(b_each, dims)
        return (a_edge, grad), (b_edge, negated)

    edge = graph.node(backward)
    return Value(graph.new(each, dims), each, dims, edge)


def _where(graph: Graph, condition: Buffer, a: Value, b: Value) -> Value:
    each, dims = max(a.each, b.each), a.dims
    if not graph.needs(a, b):
        return Value(graph.new(each, dims), each, dims)
    edges = (a.edge, b.edge)

    def backward(_: Buffer) -> Outcome:
        return tuple((edge, graph.new(each, dims)) for edge in edges)

    edge = graph.node(backward, graph.save(condition))
    return Value(graph.new(each, dims), each, dims, edge)
