"""Llama 4's experts: every expert computes every token, weighed by a router that is zero for all but the chosen.

Source: transformers 5.23 models/llama4/modeling_llama4.py, Llama4TextMoe, Llama4TextExperts, Llama4Router.
"""

from planner.families.parts import Experts, GatedMlp, Linear, PlainMlp
from planner.timeline.mlps import activation, shared_expert
from planner.timeline.ops import GRADIENTS, cast, mul, parameter, unary
from planner.timeline.pieces import split
from planner.timeline.projections import Projector, plain
from planner.timeline.rows import scale_rows, sum_pairs, top_k
from planner.timeline.tape import Buffer, Dims, Outcome, Tape, Value

_ALL = ("E", "T")


def dense_experts(tape: Tape, part: Experts, beside: GatedMlp | PlainMlp, x: Value, project: Projector) -> Value:
    """`feed_forward(x)`; the shared expert `beside` runs last, and its output is added to in place."""
    scores = _scores(tape, part, x, project)
    routed = scale_rows(tape, _repeated(tape, x), scores)
    out = _experts(tape, part, routed, project)
    shared = shared_expert(tape, beside, x, project)
    summed = sum_pairs(tape, out, ("T", "h"), 4 if project.switches.autocast else out.each)
    result = _added(tape, shared, summed)
    del scores, routed, out
    return result


def _scores(tape: Tape, part: Experts, x: Value, project: Projector) -> Value:
    """The chosen logits scattered among minus infinities, through a sigmoid in float32."""
    with tape.cause("router"):
        logits = plain(tape, project.switches, part.router, x)
        values, index = top_k(tape, logits)
        filled = Value(tape.new(logits.each, ("T", "E")), logits.each, ("T", "E"), values.edge)
        weights = unary(tape, cast(tape, filled, 4), saves="output")
        weights = cast(tape, weights, logits.each)
        del values, index, filled
        return _transposed(tape, weights)


def _transposed(tape: Tape, x: Value) -> Value:
    each, edge_in = x.each, x.edge
    edge = tape.node(lambda grad: ((edge_in, grad),)) if tape.needs(x) else None
    return Value(tape.new(each, _ALL), each, _ALL, edge)


def _repeated(tape: Tape, x: Value) -> Value:
    """`x.repeat(E, 1)`; backward sums over the experts."""
    each, dims, edge_in, own = x.each, (*_ALL, "h"), x.edge, x.dims
    if not tape.needs(x):
        return Value(tape.new(each, dims), each, dims)
    edge = tape.node(lambda _: ((edge_in, tape.new(each, own)),))
    return Value(tape.new(each, dims), each, dims, edge)


def _experts(tape: Tape, part: Experts, x: Value, project: Projector) -> Value:
    """Two batched products, one matrix per expert."""
    inner = (*_ALL, "J")
    both = _bmm(tape, x, part.up, (*_ALL, "2J"), project)
    gate, up = split(tape, both, (inner, inner))
    product = mul(tape, up, activation(tape, part.act, gate, project.switches.autocast))
    return _bmm(tape, product, part.down, (*_ALL, "h"), project)


def _bmm(tape: Tape, x: Value, part: Linear, dims: Dims, project: Projector) -> Value:
    """`torch.bmm` with the stack, which autocast casts every time where it is float32."""
    switches = project.switches
    weight = parameter(switches.residual, ("E", part.in_, part.out), trained=switches.trains_base)
    if switches.autocast:
        x, weight = cast(tape, x, switches.autocast), cast(tape, weight, switches.autocast)
    if not tape.needs(x, weight):
        return Value(tape.new(x.each, dims), x.each, dims)
    each, x_edge, w_edge, x_dims, w_dims = x.each, x.edge, weight.edge, x.dims, weight.dims

    def backward(_: Buffer) -> Outcome:
        to_weight = tape.new(each, w_dims, GRADIENTS if w_edge.leaf else "") if w_edge else None
        to_x = tape.new(each, x_dims) if x_edge else None
        return (x_edge, to_x), (w_edge, to_weight)

    saved = (tape.save(x) if w_edge else []) + (tape.save(weight) if x_edge else [])
    edge = tape.node(backward, saved)
    return Value(tape.new(each, dims), each, dims, edge)


def _added(tape: Tape, x: Value, other: Value) -> Value:
    """`x.add_(other)`: in place; the wider side's gradient is cast."""
    if not tape.needs(x, other):
        return x
    edges, each, wide, dims = (x.edge, other.edge), x.each, other.each, x.dims

    def backward(grad: Buffer) -> Outcome:
        return (edges[0], grad), (edges[1], grad if wide == each else tape.new(wide, dims))

    return Value(x.buffer, each, dims, tape.node(backward))
