"""Routers: from a token to the experts it goes to, and how much each counts.

Sources: transformers 5.23, the TopKRouter classes of the models named in planner/families/moe.py.
Tensors of one number per group of experts are left out: at most 8 per token.
"""

from typing import NamedTuple

from planner.families.parts import Experts
from planner.step.attention.softmax import softmax
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import cast, matmul, unary
from planner.step.engine.row_ops import gather, normalise, top_k
from planner.step.feed_forward.stacked_weights import router_weight
from planner.step.projections.adapters import autocast_weight
from planner.step.projections.linear import Projector

ROUTER = "router"
_SCORES = ("T", "E")


class Routing(NamedTuple):
    """Weights and expert ids per token and pair, and the logits, which live as long as the layer's forward."""

    weights: Value
    chosen: Value
    logits: Value


@framed
def route(graph: Graph, part: Experts, x: Value, project: Projector) -> Routing:
    """What the router returns."""
    with graph.cause(ROUTER):
        logits = graph.hold(_logits(graph, part, x, project))
        if part.routing == "softmax":
            return _softmax(graph, part, logits)
        if part.routing == "top_softmax":
            return _top_softmax(graph, part, logits, x.each)
        return _sigmoid(graph, part, logits)


@framed
def _logits(graph: Graph, part: Experts, x: Value, project: Projector) -> Value:
    """`F.linear`; DeepSeek and GLM write both sides in float32, which autocast turns back."""
    weight, autocast = router_weight(graph, project, part.router), project.switches.autocast
    if part.float_router:
        x, weight = (cast(graph, x, 4), cast(graph, weight, 4))
    if autocast:
        weight = _lowered(graph, weight, autocast, part.router.name)
        x = cast(graph, x, autocast)
    return matmul(graph, x, weight, "E")


@framed
def _lowered(graph: Graph, weight: Value, each: int, name: str) -> Value:
    """Autocast keeps copies of parameters only, not of what was computed from them."""
    if weight.edge is not None and weight.edge.leaf:
        return autocast_weight(graph, weight, each, name)
    return cast(graph, weight, each)


@framed
def _softmax(graph: Graph, part: Experts, logits: Value) -> Routing:
    """Probabilities in float32 over all experts, the best of them, normalised, and cast back where the class does."""
    probabilities = graph.hold(softmax(graph, cast(graph, logits, 4)))
    values, index = top_k(graph, probabilities)
    return Routing(_finished(graph, part, values, logits.each), index, logits)


@framed
def _top_softmax(graph: Graph, part: Experts, logits: Value, each: int) -> Routing:
    """The best logits first, probabilities among them (GraniteMoE in float32, GPT-OSS in the logits' dtype)."""
    if part.float_scores:
        logits = graph.replace(logits, cast(graph, logits, 4))
    values, index = graph.hold(top_k(graph, logits))
    weights = softmax(graph, values)
    return Routing(cast(graph, weights, each) if part.float_scores else weights, index, logits)


@framed
def _sigmoid(graph: Graph, part: Experts, logits: Value) -> Routing:
    """Chosen by score plus a correction, weighted by the score alone; DeepSeek masks whole groups before."""
    scores = graph.hold(unary(graph, cast(graph, logits, 4) if part.float_scores else logits, saves="output"))
    choice = graph.hold(graph.new(4, _SCORES))
    if not part.float_scores:
        group_mask = graph.hold(graph.new(1, _SCORES))
        masked = graph.new(4, _SCORES)
        choice, group_mask = graph.replace((choice, group_mask), (masked, masked))
    best, index = graph.hold(top_k(graph, Value(choice, 4, _SCORES)))
    graph.release(best)
    values = gather(graph, scores, index)
    return Routing(_finished(graph, part, values, values.each), index, logits)


@framed
def _finished(graph: Graph, part: Experts, values: Value, each: int) -> Value:
    if part.normed:
        values = normalise(graph, values)
    if part.scaled:
        values = unary(graph, values)
    return cast(graph, values, each) if part.narrow else values
