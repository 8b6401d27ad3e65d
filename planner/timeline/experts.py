"""Mixtures of experts: the router, all experts in one grouped product, and a shared expert beside them.

Source: transformers 5.23 integrations/moe.py, grouped_mm_experts_forward, which every family runs unless told
otherwise (modeling_utils.py, get_correct_experts_implementation). Each of the T tokens is copied once per expert it
goes to, and the T·top rows are multiplied in one call whichever experts they chose: bytes do not depend on routing.
"""

from planner.families.parts import Experts, GatedMlp, Linear, PlainMlp
from planner.timeline.dense_experts import dense_experts
from planner.timeline.gates import gate
from planner.timeline.liger_experts import liger_experts
from planner.timeline.mlps import activation, shared_expert
from planner.timeline.ops import add, cast, unary
from planner.timeline.projections import Projector
from planner.timeline.routers import Routing, route
from planner.timeline.rows import gather, scale_rows, sum_pairs
from planner.timeline.stacked import GroupedProduct, expert_weight, factors_of
from planner.timeline.tape import Tape, Value

EXPERTS = "experts: each token's rows, gate, up and results"
_PAIRS = ("T", "top")


def experts(tape: Tape, part: Experts, x: Value, project: Projector) -> Value:
    """The feed-forward part of a sparse layer."""
    with tape.cause(EXPERTS):
        if part.shared is None:
            routing = route(tape, part, x, project)
            return routed(tape, part, x, routing, project)
        if part.routing == "dense":
            return dense_experts(tape, part, part.shared, x, project)
        if part.shared_gate is not None:
            return _weighed(tape, part, (part.shared, part.shared_gate), x, project)
        routing = route(tape, part, x, project)
        chosen = routed(tape, part, x, routing, project)
        return add(tape, chosen, shared_expert(tape, part.shared, x, project))


def _weighed(
    tape: Tape, part: Experts, beside: tuple[GatedMlp | PlainMlp, Linear], x: Value, project: Projector
) -> Value:
    """Qwen 2 MoE: the shared expert first, weighed by a gate of its own at the end."""
    shared = shared_expert(tape, beside[0], x, project)
    routing = route(tape, part, x, project)
    chosen = routed(tape, part, x, routing, project)
    weight = unary(tape, project(beside[1], x), saves="output")
    shared = scale_rows(tape, shared, Value(weight.buffer, weight.each, weight.dims[:-1], weight.edge))
    return add(tape, chosen, shared)


def routed(tape: Tape, part: Experts, x: Value, routing: Routing, project: Projector) -> Value:
    """`grouped_mm_experts_forward`. Its local tensors live to its end, as Python's names do."""
    if project.switches.liger and not part.bias:
        return liger_experts(tape, part, x, routing, project)
    down_factors = factors_of(tape, project, part.down, "r")
    up_factors = factors_of(tape, project, part.up, "2r")
    order, permutation = tape.new(8, _PAIRS), Value(tape.new(8, _PAIRS), 8, _PAIRS)
    rows = Value(tape.new(8, _PAIRS), 8, _PAIRS)
    chosen = gather(tape, x, rows, (*_PAIRS, "h"))
    weights = gather(tape, routing.weights, permutation, _PAIRS)
    counted, counts = tape.new(4, _PAIRS), tape.new(4, ("E",))
    product = GroupedProduct(tape, Value(tape.new(4, ("E",)), 4, ("E",)), project.switches.loops_experts)
    up_weight = expert_weight(tape, project, part.up, up_factors)
    bias = _bias(tape, part, "2J", up_weight.each)
    up = product(chosen, up_weight, part.up.out)
    inner = _inner(tape, part, up, project.switches.autocast)
    del up
    down_weight = expert_weight(tape, project, part.down, down_factors)
    bias = _bias(tape, part, "h", up_weight.each)
    out = product(inner, down_weight, "h")
    del inner
    weighted = scale_rows(tape, out, weights)
    inverse = Value(tape.new(8, _PAIRS), 8, _PAIRS)
    tape.new(8, _PAIRS)
    weighted = gather(tape, weighted, inverse, weighted.dims)
    # Autocast sums in float32 (autocast_mode.h, fp32_set_opt_dtype).
    summed = sum_pairs(tape, weighted, ("T", "h"), 4 if project.switches.autocast else weighted.each)
    result = cast(tape, summed, x.each)
    del order, counted, counts, bias, chosen, down_factors, up_factors
    return result


def _inner(tape: Tape, part: Experts, up: Value, autocast: int) -> Value:
    """`act(gate) * up`, or `act(up)` of experts without a gate."""
    if part.gated:
        return gate(tape, part.act, up, (*_PAIRS, "J"), autocast)
    return activation(tape, part.act, up, autocast)


def _bias(tape: Tape, part: Experts, width: str, each: int) -> Value | None:
    """Each row's own copy of its expert's bias."""
    return Value(tape.new(each, (*_PAIRS, width)), each, (*_PAIRS, width)) if part.bias else None
