"""Liger's experts: gate, up, their product and down in two kernels.

Source: liger-kernel 0.8.5 ops/fused_moe.py, LigerFusedMoEFunction, which its patches of Mixtral, Qwen 3 MoE and
DeepSeek put in place of the model's experts (transformers/swiglu.py, LigerExperts). It saves one product per pair and
makes the gradients of all experts, wanted or not.
"""

from planner.families.parts import Experts
from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed
from planner.step.engine.ops import GRADIENTS
from planner.step.feed_forward.routers import Routing
from planner.step.feed_forward.stacked_weights import FOLDED, expert_weight, factors_of
from planner.step.projections.linear import Projector

_PAIRS = ("T", "top")


@framed
def liger_experts(graph: Graph, part: Experts, x: Value, routing: Routing, project: Projector) -> Value:
    """`LigerExperts.forward`."""
    down_factors = graph.hold(factors_of(graph, project, part.down))
    up_factors = graph.hold(factors_of(graph, project, part.up))
    ids = graph.hold(graph.new(4, _PAIRS))
    up = graph.hold(expert_weight(graph, project, part.up, up_factors))
    down = graph.hold(expert_weight(graph, project, part.down, down_factors))
    places = graph.hold([graph.new(4, _PAIRS) for _ in range(3)])
    each, inputs = x.each, graph.hold((x, up, down))
    product = graph.hold(graph.new(each, (*_PAIRS, "2J")))
    work = graph.hold((graph.new(each, (*_PAIRS, "J")), graph.new(each, (*_PAIRS, "h"))))
    out = graph.hold(graph.new(each, ("T", "h")))
    if not graph.needs(*inputs, routing.weights):
        return Value(out, each, ("T", "h"))
    edges = (x.edge, up.edge, down.edge, routing.weights.edge)
    own, shapes = routing.weights.each, (up.dims, down.dims)
    tags = [GRADIENTS if edge and edge.leaf else f"{FOLDED} (gradients)" for edge in edges[1:3]]

    def backward(_: Buffer) -> Outcome:
        product = graph.hold(graph.new(each, (*_PAIRS, "2J")))
        weighted = graph.hold(graph.new(each, (*_PAIRS, "J")))
        to_down = graph.hold(graph.new(each, shapes[1], tags[1]))
        rows = graph.hold(graph.new(each, (*_PAIRS, "h")))
        to_x = graph.hold(graph.new(each, ("T", "h")))
        to_up = graph.hold(graph.new(each, shapes[0], tags[0]))
        graph.release(product, weighted, rows)
        return (edges[0], to_x), (edges[1], to_up), (edges[2], to_down), (edges[3], graph.new(own, _PAIRS))

    saved = graph.save(*inputs, product, routing.weights, *places)
    graph.release(work, ids, up_factors, down_factors)
    return Value(out, each, ("T", "h"), graph.node(backward, saved))
