"""Llama 4's experts: every expert computes every token, weighed by a router that is zero for all but the chosen.

Source: transformers 5.23 models/llama4/modeling_llama4.py, Llama4TextMoe, Llama4TextExperts, Llama4Router.
"""

from planner.families.parts import Experts, GatedMlp, Linear, PlainMlp
from planner.step.engine.graph import Buffer, Dims, Graph, Outcome, Value
from planner.step.engine.ops import GRADIENTS, cast, mul, parameter, unary
from planner.step.engine.row_ops import scale_rows, sum_pairs, top_k
from planner.step.engine.slice_ops import split
from planner.step.feed_forward.mlp import activation, shared_expert
from planner.step.projections.linear import Projector, plain

_ALL = ("E", "T")


def dense_experts(graph: Graph, part: Experts, beside: GatedMlp | PlainMlp, x: Value, project: Projector) -> Value:
    """`feed_forward(x)`; the shared expert `beside` runs last, and its output is added to in place."""
    scores = _scores(graph, part, x, project)
    routed = scale_rows(graph, _repeated(graph, x), scores)
    out = _experts(graph, part, routed, project)
    shared = shared_expert(graph, beside, x, project)
    summed = sum_pairs(graph, out, ("T", "h"), 4 if project.switches.autocast else out.each)
    result = _added(graph, shared, summed)
    del scores, routed, out
    return result


def _scores(graph: Graph, part: Experts, x: Value, project: Projector) -> Value:
    """The chosen logits scattered among minus infinities, through a sigmoid in float32."""
    with graph.cause("router"):
        logits = plain(graph, project.switches, part.router, x)
        values, index = top_k(graph, logits)
        filled = Value(graph.new(logits.each, ("T", "E")), logits.each, ("T", "E"), values.edge)
        weights = unary(graph, cast(graph, filled, 4), saves="output")
        weights = cast(graph, weights, logits.each)
        del values, index, filled
        return _transposed(graph, weights)


def _transposed(graph: Graph, x: Value) -> Value:
    each, edge_in = x.each, x.edge
    edge = graph.node(lambda grad: ((edge_in, grad),)) if graph.needs(x) else None
    return Value(graph.new(each, _ALL), each, _ALL, edge)


def _repeated(graph: Graph, x: Value) -> Value:
    """`x.repeat(E, 1)`; backward sums over the experts."""
    each, dims, edge_in, own = x.each, (*_ALL, "h"), x.edge, x.dims
    if not graph.needs(x):
        return Value(graph.new(each, dims), each, dims)
    edge = graph.node(lambda _: ((edge_in, graph.new(each, own)),))
    return Value(graph.new(each, dims), each, dims, edge)


def _experts(graph: Graph, part: Experts, x: Value, project: Projector) -> Value:
    """Two batched products, one matrix per expert."""
    inner = (*_ALL, "J")
    both = _bmm(graph, x, part.up, (*_ALL, "2J"), project)
    gate, up = split(graph, both, (inner, inner))
    product = mul(graph, up, activation(graph, part.act, gate, project.switches.autocast))
    return _bmm(graph, product, part.down, (*_ALL, "h"), project)


def _bmm(graph: Graph, x: Value, part: Linear, dims: Dims, project: Projector) -> Value:
    """`torch.bmm` with the stack, which autocast casts every time where it is float32."""
    switches = project.switches
    weight = parameter(switches.residual, ("E", part.in_, part.out), trained=switches.trains_base)
    if switches.autocast:
        x, weight = cast(graph, x, switches.autocast), cast(graph, weight, switches.autocast)
    if not graph.needs(x, weight):
        return Value(graph.new(x.each, dims), x.each, dims)
    each, x_edge, w_edge, x_dims, w_dims = x.each, x.edge, weight.edge, x.dims, weight.dims

    def backward(_: Buffer) -> Outcome:
        to_weight = graph.new(each, w_dims, GRADIENTS if w_edge.leaf else "") if w_edge else None
        to_x = graph.new(each, x_dims) if x_edge else None
        return (x_edge, to_x), (w_edge, to_weight)

    saved = (graph.save(x) if w_edge else []) + (graph.save(weight) if x_edge else [])
    edge = graph.node(backward, saved)
    return Value(graph.new(each, dims), each, dims, edge)


def _added(graph: Graph, x: Value, other: Value) -> Value:
    """`x.add_(other)`: in place; the wider side's gradient is cast."""
    if not graph.needs(x, other):
        return x
    edges, each, wide, dims = (x.edge, other.edge), x.each, other.each, x.dims

    def backward(grad: Buffer) -> Outcome:
        return (edges[0], grad), (edges[1], grad if wide == each else graph.new(wide, dims))

    return Value(x.buffer, each, dims, graph.node(backward))
