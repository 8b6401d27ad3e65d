"""Gated delta-net layers (Qwen3.5, Qwen3-Next, OLMo Hybrid): a short convolution, the delta rule, a gated norm.

Source: transformers 5.23 models/{qwen3_5,qwen3_next,olmo_hybrid}/modeling_*.py, the GatedDeltaNet of each, in plain
torch.
"""

from dataclasses import replace

from planner.families.mixers import DeltaNet, SplitDeltaNet
from planner.families.parts import Norm
from planner.step.engine.graph import Buffer, Dims, Edge, Graph, Outcome, Value, framed
from planner.step.engine.ops import GRADIENTS, cast, clone, mul, parameter, relayout_gradient, shift, unary, view
from planner.step.engine.slice_ops import concatenate, piece, split
from planner.step.norms import norm
from planner.step.projections.linear import Projector
from planner.step.recurrent.delta_rule import Inputs, delta_rule
from planner.step.recurrent.short_convolution import convolved
from planner.step.switches import LigerPatches

LINEAR = "linear attention: projections, convolution, gates"
_QKV: tuple[Dims, Dims, Dims] = (("T", "key"), ("T", "key"), ("T", "value"))


@framed
def delta_net(graph: Graph, part: DeltaNet, x: Value, project: Projector) -> Value:
    """`linear_attn(x)`."""
    switches = project.switches
    with graph.cause(LINEAR):
        if switches.padded:
            x = graph.replace(x, unary(graph, x))  # padding is multiplied away
        if part.z and part.a:
            projections = (part.qkv, part.z, part.b, part.a)
            mixed, z, b, a = graph.hold([project(one, x) for one in projections])
        else:  # Qwen3-Next's two projections keep their names to the end
            both = graph.hold((project(part.qkv, x), project(part.b, x)))
            mixed, z, b, a = graph.hold(_regrouped(graph, *both))
        mixed = graph.replace(mixed, convolved(graph, mixed, project))
        q, k, v = graph.hold(split(graph, mixed, _QKV))
        v = graph.replace(v, relayout_gradient(graph, v))
        if not part.repeats:
            q, k = graph.replace(
                (q, k), tuple(view(relayout_gradient(graph, value), ("T", "Hv", "dk")) for value in (q, k))
            )
        inputs = graph.hold(
            Inputs(q, k, view(v, ("T", "Hv", "dv")), _decay(graph, a, project), unary(graph, b, saves="output"))
        )
        out = graph.hold(delta_rule(graph, inputs, switches.autocast))
        out = graph.replace(out, _gated_norm(graph, part.norm, out, z, project))
        result = graph.hold(project(part.out, view(out, ("T", "value"))))
        graph.release(mixed, z, b, a, inputs)
        return result


@framed
def split_delta_net(graph: Graph, part: SplitDeltaNet, x: Value, project: Projector) -> Value:
    """`linear_attn(x)` of OLMo Hybrid: queries, keys and values joined for the convolution, the gate made after it."""
    switches = project.switches
    with graph.cause(LINEAR):
        if switches.padded:
            x = graph.replace(x, unary(graph, x))  # padding is multiplied away
        joined = [project(one, x) for one in (part.q, part.k, part.v)]
        mixed = graph.hold(concatenate(graph, joined, ("T", "conv")))
        mixed = graph.replace(mixed, convolved(graph, mixed, project))
        mixed = graph.replace(mixed, piece(graph, mixed, ("T", "conv")))  # the last tokens, which are all
        q, k, v = graph.hold(split(graph, mixed, _QKV))
        v = graph.replace(v, relayout_gradient(graph, v))
        if not part.repeats:
            q, k = graph.replace(
                (q, k), tuple(view(relayout_gradient(graph, value), ("T", "Hv", "dk")) for value in (q, k))
            )
        beta = graph.hold(unary(graph, project(part.b, x), saves="output"))
        if part.doubles:
            beta = graph.replace(beta, unary(graph, beta))
        inputs = graph.hold(Inputs(q, k, view(v, ("T", "Hv", "dv")), _decay(graph, project(part.a, x), project), beta))
        out = graph.hold(delta_rule(graph, inputs, switches.autocast))
        gate = graph.hold(project(part.gate, x))
        out = graph.replace(out, _gated_norm(graph, part.norm, out, gate, project))
        return project(part.out, view(out, ("T", "value")))


@framed
def _regrouped(graph: Graph, qkvz: Value, ba: Value) -> tuple[Value, Value, Value, Value]:
    """Qwen3-Next, fix_query_key_value_ordering: cut per key head, and put together again in the other order."""
    q, k, v, z = split(graph, qkvz, (*_QKV, ("T", "value")))
    b, a = split(graph, ba, (("T", "Hv"), ("T", "Hv")))
    v, z, b, a = (clone(graph, value) for value in (v, z, b, a))
    q, k = clone(graph, q), clone(graph, k)
    return concatenate(graph, (q, k, v), ("T", "conv")), z, b, a


@framed
def _decay(graph: Graph, a: Value, project: Projector) -> Value:
    """`-exp(A_log.float()) * softplus(a.float() + dt_bias)`."""
    trained = project.switches.trains_base
    rate = graph.hold(cast(graph, parameter(project.switches.residual, ("Hv",), trained=trained), 4))
    rate = graph.replace(rate, unary(graph, unary(graph, rate, saves="output")))
    step = unary(graph, _biased(graph, cast(graph, a, 4), trained, project.switches.residual), saves="input")
    if not trained:
        return mul(graph, step, Value(rate.buffer, 4, ("T", "Hv")))
    return mul(graph, step, Value(rate.buffer, 4, ("T", "Hv"), rate.edge))


@framed
def _biased(graph: Graph, x: Value, trained: bool, each: int) -> Value:
    if not trained:
        return shift(graph, x)
    edge_in, dims = x.edge, x.dims

    def backward(grad: Buffer) -> Outcome:
        return (edge_in, grad), (Edge(leaf=True), graph.new(each, ("Hv",), GRADIENTS))

    return Value(graph.new(4, dims), 4, dims, graph.node(backward))


@framed
def _gated_norm(graph: Graph, part: Norm, x: Value, gate: Value, project: Projector) -> Value:
    """`(weight * norm(x)) * silu(gate.float())`, back in the dtype of x."""
    each = x.each
    with graph.cause("norms"):
        # No kernel of Liger's takes its place.
        normed = graph.hold(norm(graph, part, x, replace(project.switches, liger=LigerPatches())))
        bent = graph.hold(unary(graph, cast(graph, view(gate, ("T", "Hv", "dv")), 4), saves="input"))
        return cast(graph, mul(graph, normed, bent), each)
