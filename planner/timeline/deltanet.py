"""Gated delta-net layers (Qwen3.5, Qwen3-Next): a short convolution, the delta rule, a gated norm.

Source: transformers 5.23 models/{qwen3_5,qwen3_next}/modeling_*.py, the GatedDeltaNet of each, in plain torch.
"""

from dataclasses import replace

from planner.families.parts import DeltaNet, Norm
from planner.timeline.convolution import convolved
from planner.timeline.delta_rule import Inputs, delta_rule
from planner.timeline.norms import norm
from planner.timeline.ops import GRADIENTS, cast, clone, mul, parameter, relayout_gradient, shift, unary, view
from planner.timeline.pieces import concatenate, split
from planner.timeline.projections import Projector
from planner.timeline.tape import Buffer, Dims, Edge, Outcome, Tape, Value

LINEAR = "linear attention: projections, convolution, gates"
_QKV: tuple[Dims, Dims, Dims] = (("T", "key"), ("T", "key"), ("T", "value"))


def delta_net(tape: Tape, part: DeltaNet, x: Value, project: Projector) -> Value:
    """`linear_attn(x)`."""
    switches = project.switches
    with tape.cause(LINEAR):
        if switches.padded:
            x = unary(tape, x)  # padding is multiplied away
        held: list[Value] = []
        mixed, z, b, a = _projected(part, x, project, held)
        mixed = convolved(tape, mixed, project)
        q, k, v = split(tape, mixed, _QKV)
        v = relayout_gradient(tape, v)
        if not part.repeats:
            q, k = (view(relayout_gradient(tape, value), ("T", "Hv", "dk")) for value in (q, k))
        inputs = Inputs(q, k, view(v, ("T", "Hv", "dv")), _decay(tape, a, project), unary(tape, b, saves="output"))
        out = delta_rule(tape, inputs, switches.autocast)
        out = _gated_norm(tape, part.norm, out, z, project)
        result = project(part.out, view(out, ("T", "value")))
        del held, mixed, z, b, a, inputs
        return result


def _projected(
    part: DeltaNet, x: Value, project: Projector, held: list[Value]
) -> tuple[Value, Value, Value, Value]:
    """Queries, keys and values together; the gate; what beta and the decay are made of.

    Qwen3-Next's two projections keep their names, `held`, to the end.
    """
    if part.z and part.a:
        return project(part.qkv, x), project(part.z, x), project(part.b, x), project(part.a, x)
    held += [project(part.qkv, x), project(part.b, x)]
    return _regrouped(project.tape, *held)


def _regrouped(tape: Tape, qkvz: Value, ba: Value) -> tuple[Value, Value, Value, Value]:
    """Qwen3-Next, fix_query_key_value_ordering: cut per key head, and put together again in the other order."""
    q, k, v, z = split(tape, qkvz, (*_QKV, ("T", "value")))
    b, a = split(tape, ba, (("T", "Hv"), ("T", "Hv")))
    v, z, b, a = (clone(tape, value) for value in (v, z, b, a))
    q, k = clone(tape, q), clone(tape, k)
    return concatenate(tape, (q, k, v), ("T", "conv")), z, b, a


def _decay(tape: Tape, a: Value, project: Projector) -> Value:
    """`-exp(A_log.float()) * softplus(a.float() + dt_bias)`."""
    trained = project.switches.trains_base
    rate = cast(tape, parameter(project.switches.residual, ("Hv",), trained=trained), 4)
    rate = unary(tape, unary(tape, rate, saves="output"))
    step = unary(tape, _biased(tape, cast(tape, a, 4), trained, project.switches.residual), saves="input")
    if not trained:
        return mul(tape, step, Value(rate.buffer, 4, ("T", "Hv")))
    return mul(tape, step, Value(rate.buffer, 4, ("T", "Hv"), rate.edge))


def _biased(tape: Tape, x: Value, trained: bool, each: int) -> Value:
    if not trained:
        return shift(tape, x)
    edge_in, dims = x.edge, x.dims

    def backward(grad: Buffer) -> Outcome:
        return (edge_in, grad), (Edge(leaf=True), tape.new(each, ("Hv",), GRADIENTS))

    return Value(tape.new(4, dims), 4, dims, tape.node(backward))


def _gated_norm(tape: Tape, part: Norm, x: Value, gate: Value, project: Projector) -> Value:
    """`(weight * norm(x)) * silu(gate.float())`, back in the dtype of x."""
    each = x.each
    with tape.cause("norms"):
        normed = norm(tape, part, x, replace(project.switches, liger=False))  # no kernel of Liger's takes its place
        bent = unary(tape, cast(tape, view(gate, ("T", "Hv", "dv")), 4), saves="input")
        return cast(tape, mul(tape, normed, bent), each)

