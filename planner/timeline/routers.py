"""Routers: from a token to the experts it goes to, and how much each counts.

Sources: transformers 5.23, the TopKRouter classes of the models named in planner/families/moe.py.
Tensors of one number per group of experts are left out: at most 8 per token.
"""

from typing import NamedTuple

from planner.families.parts import Experts
from planner.timeline.adapters import autocast_weight
from planner.timeline.attend import softmax
from planner.timeline.ops import cast, matmul, unary
from planner.timeline.projections import Projector
from planner.timeline.rows import gather, normalise, top_k
from planner.timeline.stacked import router_weight
from planner.timeline.tape import Tape, Value

ROUTER = "router"
_SCORES = ("T", "E")


class Routing(NamedTuple):
    """Weights and expert ids per token and pair, and the logits, which live as long as the layer's forward."""

    weights: Value
    chosen: Value
    logits: Value


def route(tape: Tape, part: Experts, x: Value, project: Projector) -> Routing:
    """What the router returns."""
    with tape.cause(ROUTER):
        logits = _logits(tape, part, x, project)
        if part.routing == "softmax":
            return _softmax(tape, part, logits)
        if part.routing == "top_softmax":
            return _top_softmax(tape, part, logits, x.each)
        return _sigmoid(tape, part, logits)


def _logits(tape: Tape, part: Experts, x: Value, project: Projector) -> Value:
    """`F.linear`; DeepSeek and GLM write both sides in float32, which autocast turns back."""
    weight, autocast = router_weight(tape, project, part.router), project.switches.autocast
    if part.float_router:
        x, weight = cast(tape, x, 4), cast(tape, weight, 4)
    if autocast:
        weight = _lowered(tape, weight, autocast, part.router.name)
        x = cast(tape, x, autocast)
    return matmul(tape, x, weight, "E")


def _lowered(tape: Tape, weight: Value, each: int, name: str) -> Value:
    """Autocast keeps copies of parameters only, not of what was computed from them."""
    if weight.edge is not None and weight.edge.leaf:
        return autocast_weight(tape, weight, each, name)
    return cast(tape, weight, each)


def _softmax(tape: Tape, part: Experts, logits: Value) -> Routing:
    """Probabilities in float32 over all experts, the best of them, normalised, and cast back where the class does."""
    probabilities = softmax(tape, cast(tape, logits, 4))
    values, index = top_k(tape, probabilities)
    return Routing(_finished(tape, part, values, logits.each), index, logits)


def _top_softmax(tape: Tape, part: Experts, logits: Value, each: int) -> Routing:
    """The best logits first, probabilities among them (GraniteMoE in float32, GPT-OSS in the logits' dtype)."""
    if part.float_scores:
        logits = cast(tape, logits, 4)
    values, index = top_k(tape, logits)
    weights = softmax(tape, values)
    return Routing(cast(tape, weights, each) if part.float_scores else weights, index, logits)


def _sigmoid(tape: Tape, part: Experts, logits: Value) -> Routing:
    """Chosen by score plus a correction, weighted by the score alone; DeepSeek masks whole groups before."""
    scores = unary(tape, cast(tape, logits, 4) if part.float_scores else logits, saves="output")
    choice = tape.new(4, _SCORES)
    if not part.float_scores:
        group_mask = tape.new(1, _SCORES)
        masked = tape.new(4, _SCORES)
        choice, group_mask = masked, masked
        del masked, group_mask
    best, index = top_k(tape, Value(choice, 4, _SCORES))
    del best
    values = gather(tape, scores, index, index.dims)
    return Routing(_finished(tape, part, values, values.each), index, logits)


def _finished(tape: Tape, part: Experts, values: Value, each: int) -> Value:
    if part.normed:
        values = normalise(tape, values)
    if part.scaled:
        values = unary(tape, values)
    return cast(tape, values, each) if part.narrow else values
