"""Mixtures of experts: the router, all experts in one grouped product, and a shared expert beside them.

Source: transformers 5.23 integrations/moe.py, grouped_mm_experts_forward, which every family runs unless told
otherwise (modeling_utils.py, get_correct_experts_implementation). Each of the T tokens is copied once per expert it
goes to, and the T·top rows are multiplied in one call whichever experts they chose: bytes do not depend on routing.
"""

from planner.families.parts import Experts, GatedMlp, Linear, PlainMlp
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import add, cast, unary
from planner.step.engine.row_ops import rows_at, scale_rows, sum_pairs
from planner.step.feed_forward.dense_experts import dense_experts
from planner.step.feed_forward.gates import gate
from planner.step.feed_forward.gathered_experts import gathered_experts
from planner.step.feed_forward.liger_experts import liger_experts
from planner.step.feed_forward.mlp import activation, shared_expert
from planner.step.feed_forward.routers import Routing, route
from planner.step.feed_forward.stacked_weights import GroupedProduct, expert_weight, factors_of
from planner.step.projections.linear import Projector

EXPERTS = "experts: each token's rows, gate, up and results"
_PAIRS = ("T", "top")


@framed
def experts(graph: Graph, part: Experts, x: Value, project: Projector) -> Value:
    """The feed-forward part of a sparse layer."""
    with graph.cause(EXPERTS):
        if part.shared is None:
            routing = route(graph, part, x, project)
            return routed(graph, part, x, routing, project)
        if part.routing == "dense":
            return dense_experts(graph, part, part.shared, x, project)
        if part.shared_gate is not None:
            return _weighed(graph, part, (part.shared, part.shared_gate), x, project)
        routing = graph.hold(route(graph, part, x, project))
        chosen = routed(graph, part, x, routing, project)
        return add(graph, chosen, shared_expert(graph, part.shared, x, project))


@framed
def _weighed(
    graph: Graph, part: Experts, beside: tuple[GatedMlp | PlainMlp, Linear], x: Value, project: Projector
) -> Value:
    """Qwen 2 MoE: the shared expert first, weighed by a gate of its own at the end."""
    shared = shared_expert(graph, beside[0], x, project)
    routing = graph.hold(route(graph, part, x, project))
    chosen = routed(graph, part, x, routing, project)
    weight = graph.hold(unary(graph, project(beside[1], x), saves="output"))
    shared = scale_rows(graph, shared, Value(weight.buffer, weight.each, weight.dims[:-1], weight.edge))
    return add(graph, chosen, shared)


@framed
def routed(graph: Graph, part: Experts, x: Value, routing: Routing, project: Projector) -> Value:
    """`grouped_mm_experts_forward`. Its local tensors live to its end, as Python's names do."""
    if project.switches.gathers_experts:
        return gathered_experts(graph, part, x, routing, project)
    if project.switches.liger.swiglu and not part.bias:
        return liger_experts(graph, part, x, routing, project)
    down_factors = graph.hold(factors_of(graph, project, part.down))
    up_factors = graph.hold(factors_of(graph, project, part.up))
    order, permutation = graph.hold((graph.new(8, _PAIRS), Value(graph.new(8, _PAIRS), 8, _PAIRS)))
    rows = graph.hold(Value(graph.new(8, _PAIRS), 8, _PAIRS))
    chosen = graph.hold(rows_at(graph, x, rows, (*_PAIRS, "h")))
    graph.release(rows)  # `perm // num_top_k` has no name
    weights = graph.hold(rows_at(graph, routing.weights, permutation, _PAIRS))
    counted, counts = graph.hold((graph.new(4, _PAIRS), graph.new(4, ("E",))))
    product = graph.hold(GroupedProduct(graph, Value(graph.new(4, ("E",)), 4, ("E",)), project.switches.loops_experts))
    up_weight = graph.hold(expert_weight(graph, project, part.up, up_factors))
    bias = graph.hold(_bias(graph, part, "2J", up_weight.each))
    up = graph.hold(product(chosen, up_weight, part.up.out))
    inner = graph.hold(_inner(graph, part, up, project.switches.autocast))
    graph.release(up)
    down_weight = graph.hold(expert_weight(graph, project, part.down, down_factors))
    bias = graph.replace(bias, _bias(graph, part, "h", up_weight.each))
    out = graph.hold(product(inner, down_weight, "h"))
    graph.release(inner)
    weighted = graph.hold(scale_rows(graph, out, weights))
    inverse = graph.hold(Value(graph.new(8, _PAIRS), 8, _PAIRS))
    graph.release(graph.new(8, _PAIRS))
    weighted = graph.replace(weighted, rows_at(graph, weighted, inverse, weighted.dims))
    # Autocast sums in float32 (autocast_mode.h, fp32_set_opt_dtype).
    summed = graph.hold(sum_pairs(graph, weighted, ("T", "h"), 4 if project.switches.autocast else weighted.each))
    result = graph.hold(cast(graph, summed, x.each))
    graph.release(order, counted, counts, bias, chosen, down_factors, up_factors)
    return result


@framed
def _inner(graph: Graph, part: Experts, up: Value, autocast: int) -> Value:
    """`act(gate) * up`, or `act(up)` of experts without a gate."""
    if part.gated:
        return gate(graph, part.act, up, (*_PAIRS, "J"), autocast)
    return activation(graph, part.act, up, autocast)


def _bias(graph: Graph, part: Experts, width: str, each: int) -> Value | None:
    """Each row's own copy of its expert's bias."""
    return Value(graph.new(each, (*_PAIRS, width)), each, (*_PAIRS, width)) if part.bias else None
