"""Gemma 4 26B-A4B: experts beside the dense MLP. They and their router read the residual stream, each by a norm.

Source: transformers 5.23 models/gemma4/modeling_gemma4.py, Gemma4TextDecoderLayer.forward and Gemma4TextRouter.
"""

from planner.families.parts import Beside
from planner.timeline.attend import softmax_in_float32
from planner.timeline.experts import routed
from planner.timeline.norms import norm, scale_by_weight
from planner.timeline.ops import add, mul, parameter, unary
from planner.timeline.projections import Projector
from planner.timeline.routers import ROUTER, Routing
from planner.timeline.rows import gather, normalise, top_k
from planner.timeline.tape import Tape, Value


def with_experts(tape: Tape, part: Beside, fed: Value, x: Value, project: Projector) -> Value:
    """`norm1(fed) + norm2(experts(norm3(x)))`; `fed` is what the MLP returned, `x` the residual stream."""
    switches = project.switches
    first = norm(tape, part.norms[0], fed, switches)
    routing = _route(tape, part, x, project)
    second = norm(tape, part.norms[2], x, switches)
    second = routed(tape, part.experts, second, routing, project)
    second = norm(tape, part.norms[1], second, switches)
    return add(tape, first, second)


def _route(tape: Tape, part: Beside, x: Value, project: Projector) -> Routing:
    switches = project.switches
    with tape.cause(ROUTER):
        scale = parameter(switches.residual, ("h",), trained=switches.trains_base)
        scaled = scale_by_weight(tape, norm(tape, part.router_norm, x, switches), scale)
        scaled = unary(tape, scaled)
        scores = project(part.experts.router, scaled)
        probabilities = softmax_in_float32(tape, scores, switches.float16)
        values, index = top_k(tape, probabilities)
        values = normalise(tape, values)
        each = parameter(switches.residual, ("E",), trained=switches.trains_base)
        return Routing(mul(tape, values, gather(tape, each, index, index.dims)), index, probabilities)
