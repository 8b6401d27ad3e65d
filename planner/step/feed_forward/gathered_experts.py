"""Experts while one token after another is made: each row's own copy of its expert's weights, in batched products.

Source: transformers 5.23 integrations/moe.py, batched_mm_experts_forward, to which `generate` switches after the prompt
(generation/utils.py, _optimize_model_for_decode).
"""

from planner.families.parts import Experts
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.widths import promoted
from planner.step.feed_forward.gates import gate
from planner.step.feed_forward.mlp import activation
from planner.step.feed_forward.routers import Routing
from planner.step.projections.linear import Projector

GATHERED = "experts' weights, a copy for each token"
_PAIRS = ("T", "top")


@framed
def gathered_experts(graph: Graph, part: Experts, x: Value, routing: Routing, project: Projector) -> Value:
    """`batched_mm_experts_forward`: the gathered down projection is made while the up projection still has its name."""
    each, weight_each = x.each, project.switches.model
    chosen = graph.new(each, (*_PAIRS, "h"))
    weights = graph.new(weight_each, (*_PAIRS, part.up.out, "h"), GATHERED)
    up = graph.hold(Value(graph.new(each, (*_PAIRS, part.up.out)), each, (*_PAIRS, part.up.out)))
    if part.gated:
        inner = gate(graph, part.act, up, (*_PAIRS, "J"), project.switches.autocast)
    else:
        inner = activation(graph, part.act, up, project.switches.autocast)
    graph.release(up)
    down = graph.new(weight_each, (*_PAIRS, "h", part.down.in_), GATHERED)
    graph.release(weights)
    out = graph.new(each, (*_PAIRS, "h"))
    weighted = graph.new(promoted(each, routing.weights.each), (*_PAIRS, "h"))
    result = Value(graph.new(each, ("T", "h")), each, ("T", "h"))
    graph.release(chosen, inner, down, out, weighted)
    return result
