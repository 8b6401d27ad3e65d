"""Llama 4's experts: every expert computes every token, weighed by a router that is zero for all but the chosen.

Source: transformers 5.23 models/llama4/modeling_llama4.py, Llama4TextMoe, Llama4TextExperts, Llama4Router.
"""

from planner.families.parts import Experts, GatedMlp, Linear, PlainMlp
from planner.step.engine.cards import new_tensor
from planner.step.engine.graph import Buffer, Dims, Graph, Outcome, Value, framed
from planner.step.engine.ops import GRADIENTS, cast, mul, parameter, unary
from planner.step.engine.row_ops import scale_rows, sum_pairs, top_k
from planner.step.engine.slice_ops import split
from planner.step.feed_forward.mlp import activation, shared_expert
from planner.step.projections.linear import Projector, plain

_ALL = ("E", "T")


@framed
def dense_experts(graph: Graph, part: Experts, beside: GatedMlp | PlainMlp, x: Value, project: Projector) -> Value:
    """`feed_forward(x)`; the shared expert `beside` runs last, and its output is added to in place."""
    scores = graph.hold(_scores(graph, part, x, project))
    routed = graph.hold(scale_rows(graph, _repeated(graph, x), scores))
    out = graph.hold(_experts(graph, part, routed, project))
    shared = graph.hold(shared_expert(graph, beside, x, project))
    summed = graph.hold(sum_pairs(graph, out, ("T", "h"), 4 if project.switches.autocast else out.each))
    result = graph.hold(_added(graph, shared, summed))
    graph.release(scores, routed, out)
    return result


@framed
def _scores(graph: Graph, part: Experts, x: Value, project: Projector) -> Value:
    """The chosen logits scattered among minus infinities, through a sigmoid in float32."""
    with graph.cause("router"):
        logits = graph.hold(plain(graph, project.switches, part.router, x))
        values, index = graph.hold(top_k(graph, logits))
        filled = graph.hold(Value(graph.new(logits.each, ("T", "E")), logits.each, ("T", "E"), values.edge))
        weights = graph.hold(unary(graph, cast(graph, filled, 4), saves="output"))
        weights = graph.replace(weights, cast(graph, weights, logits.each))
        graph.release(values, index, filled)
        return _transposed(graph, weights)


def _transposed(graph: Graph, x: Value) -> Value:
    return new_tensor(graph, x, x.each, _ALL, passes=True)


def _repeated(graph: Graph, x: Value) -> Value:
    """`x.repeat(E, 1)`; backward sums over the experts."""
    return new_tensor(graph, x, x.each, (*_ALL, "h"))


@framed
def _experts(graph: Graph, part: Experts, x: Value, project: Projector) -> Value:
    """Two batched products, one matrix per expert."""
    inner = (*_ALL, "J")
    both = graph.hold(_bmm(graph, x, part.up, (*_ALL, "2J"), project))
    gate, up = graph.hold(split(graph, both, (inner, inner)))
    product = graph.hold(mul(graph, up, activation(graph, part.act, gate, project.switches.autocast)))
    return _bmm(graph, product, part.down, (*_ALL, "h"), project)


@framed
def _bmm(graph: Graph, x: Value, part: Linear, dims: Dims, project: Projector) -> Value:
    """`torch.bmm` with the stack, which autocast casts every time where it is float32."""
    switches = project.switches
    weight = parameter(switches.residual, ("E", part.in_, part.out), trained=switches.trains_base)
    if switches.autocast:
        x, weight = graph.replace(x, (cast(graph, x, switches.autocast), cast(graph, weight, switches.autocast)))
    if not graph.needs(x, weight):
        return Value(graph.new(x.each, dims), x.each, dims)
    each, x_edge, w_edge, x_dims, w_dims = x.each, x.edge, weight.edge, x.dims, weight.dims

    def backward(_: Buffer) -> Outcome:
        to_weight = graph.hold(graph.new(each, w_dims, GRADIENTS if w_edge.leaf else "") if w_edge else None)
        to_x = graph.hold(graph.new(each, x_dims) if x_edge else None)
        return (x_edge, to_x), (w_edge, to_weight)

    saved = (graph.save(x) if w_edge else []) + (graph.save(weight) if x_edge else [])
    edge = graph.node(backward, saved)
    return Value(graph.new(each, dims), each, dims, edge)


@framed
def _added(graph: Graph, x: Value, other: Value) -> Value:
    """`x.add_(other)`: in place; the wider side's gradient is cast."""
    if not graph.needs(x, other):
        return x
    edges, each, wide, dims = (x.edge, other.edge), x.each, other.each, x.dims

    def backward(grad: Buffer) -> Outcome:
        return (edges[0], grad), (edges[1], grad if wide == each else graph.new(wide, dims))

    return Value(x.buffer, each, dims, graph.node(backward))
