"""Gemma 4 26B-A4B: experts beside the dense MLP. They and their router read the residual stream, each by a norm.

Source: transformers 5.23 models/gemma4/modeling_gemma4.py, Gemma4TextDecoderLayer.forward and Gemma4TextRouter.
"""

from planner.families.parts import ParallelExperts
from planner.step.attention.softmax import softmax_in_float32
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import add, mul, parameter, unary
from planner.step.engine.row_ops import normalise, rows_at, top_k
from planner.step.feed_forward.mixture import routed
from planner.step.feed_forward.routers import ROUTER, Routing
from planner.step.norms import norm, scale_by_weight
from planner.step.projections.linear import Projector


@framed
def with_experts(graph: Graph, part: ParallelExperts, fed: Value, x: Value, project: Projector) -> Value:
    """`norm1(fed) + norm2(experts(norm3(x)))`; `fed` is what the MLP returned, `x` the residual stream."""
    switches = project.switches
    first = norm(graph, part.norms[0], fed, switches)
    routing = graph.hold(_route(graph, part, x, project))
    second = norm(graph, part.norms[2], x, switches)
    second = routed(graph, part.experts, second, routing, project)
    second = norm(graph, part.norms[1], second, switches)
    return add(graph, first, second)


@framed
def _route(graph: Graph, part: ParallelExperts, x: Value, project: Projector) -> Routing:
    switches = project.switches
    with graph.cause(ROUTER):
        scale = parameter(switches.residual, ("h",), trained=switches.trains_base)
        scaled = scale_by_weight(graph, norm(graph, part.router_norm, x, switches), scale)
        scaled = graph.replace(scaled, unary(graph, scaled))
        scores = graph.hold(project(part.experts.router, scaled))
        probabilities = graph.hold(softmax_in_float32(graph, scores, switches.float16))
        values, index = graph.hold(top_k(graph, probabilities))
        values = normalise(graph, values)
        each = parameter(switches.residual, ("E",), trained=switches.trains_base)
        return Routing(mul(graph, values, rows_at(graph, each, index, index.dims)), index, probabilities)
