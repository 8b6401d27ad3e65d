"""BLOOM's attention: one projection, positions as a bias of the scores (ALiBi), all of it written out.

Source: transformers 5.23 models/bloom/modeling_bloom.py, BloomAttention.forward. The projection, the scores and the
masked scores keep their names until the output projection is done, the probabilities as long as the layer.
"""

from planner.families.parts import Attention
from planner.step.attention.kernels import SCORES, product
from planner.step.attention.kv_cache import KeyValueCache
from planner.step.attention.softmax import softmax_in_float32
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import add, bmm, cast, clone, relayout_gradient
from planner.step.engine.slice_ops import piece
from planner.step.projections.linear import Projector

_SCORES = ("T", "H", "s")


@framed
def alibi_attention(  # noqa: PLR0913, PLR0917 (each is what the modelling code's forward is given)
    graph: Graph,
    part: Attention,
    x: Value,
    project: Projector,
    mask: Value | None,
    cache: KeyValueCache | None,
) -> Value:
    """`self_attention(x)`."""
    if not part.fused:
        msg = "attention with ALiBi has one fused projection"
        raise ValueError(msg)
    fused = graph.hold(project(part.fused, x))
    q, k, v = graph.hold(_heads(graph, fused, cache, one_sequence=project.switches.one_sequence))
    autocast, wide = project.switches.autocast, q.each
    with graph.cause(SCORES):
        scores = graph.hold(_scores(graph, q, k, autocast))
        masked = graph.hold(add(graph, scores, mask) if mask else scores)
        weights = graph.hold(cast(graph, softmax_in_float32(graph, masked, project.switches.float16), wide))
        context = graph.hold(clone(graph, product(graph, weights, v, ("T", "q"), autocast)))
    project.named.put(weights)
    out = graph.hold(project(part.o, context))
    graph.release(scores, masked, fused)
    return out


@framed
def _heads(
    graph: Graph, fused: Value, cache: KeyValueCache | None, *, one_sequence: bool
) -> tuple[Value, Value, Value]:
    """q, k and v with sequences and heads as one dimension: views of one sequence, copies of more (`reshape`).

    What a cache hands back lies head by head already, but where it hands back what it was given.
    """
    q, k, v = (piece(graph, fused, ("T", width)) for width in ("q", "k", "k"))
    if cache:
        k, v = cache.update(k, v)
        if not (one_sequence or cache.lays_out):
            k, v = clone(graph, k), clone(graph, v)
        return (q if one_sequence else clone(graph, q)), k, v
    if one_sequence:
        return relayout_gradient(graph, q), relayout_gradient(graph, k), v
    q, k, v = (clone(graph, part) for part in (q, k, v))
    return q, k, v


@framed
def _scores(graph: Graph, q: Value, k: Value, autocast: int) -> Value:
    """`alibi.baddbmm(q, k)`: under autocast the slopes are cast as well."""
    if autocast:
        k = graph.replace(k, cast(graph, k, autocast))
        q = graph.replace(q, cast(graph, q, autocast))
    slopes = graph.hold(graph.new(autocast, ("b", "H", "s")) if autocast and autocast != 4 else None)
    scores = graph.hold(bmm(graph, q, k, _SCORES))
    graph.release(slopes)
    return scores
