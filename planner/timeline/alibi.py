"""BLOOM's attention: one projection, positions as a bias of the scores (ALiBi), all of it written out.

Source: transformers 5.23 models/bloom/modeling_bloom.py, BloomAttention.forward. The projection, the scores and the
masked scores keep their names until the output projection is done, the probabilities as long as the layer.
"""

from planner.families.parts import Attention
from planner.timeline.attend import SCORES, product, softmax_in_float32
from planner.timeline.ops import add, bmm, cast, clone, relayout_gradient
from planner.timeline.pieces import piece
from planner.timeline.projections import Projector
from planner.timeline.tape import Tape, Value

_SCORES = ("T", "H", "s")


def alibi_attention(tape: Tape, part: Attention, x: Value, project: Projector, mask: Value | None) -> Value:
    """`self_attention(x)`."""
    if not part.fused:
        msg = "attention with ALiBi has one fused projection"
        raise ValueError(msg)
    fused = project(part.fused, x)
    q, k, v = _heads(tape, fused, one_sequence=project.switches.one_sequence)
    autocast, wide = project.switches.autocast, q.each
    with tape.cause(SCORES):
        scores = _scores(tape, q, k, autocast)
        masked = add(tape, scores, mask) if mask else scores
        weights = cast(tape, softmax_in_float32(tape, masked, project.switches.float16), wide)
        context = clone(tape, product(tape, weights, v, ("T", "q"), autocast))
    project.named.append(weights)
    out = project(part.o, context)
    del scores, masked, fused
    return out


def _heads(tape: Tape, fused: Value, *, one_sequence: bool) -> tuple[Value, Value, Value]:
    """q, k and v with sequences and heads as one dimension: views of one sequence, copies of more (`reshape`)."""
    q, k, v = (piece(tape, fused, ("T", width)) for width in ("q", "k", "k"))
    if one_sequence:
        return relayout_gradient(tape, q), relayout_gradient(tape, k), v
    q, k, v = (clone(tape, part) for part in (q, k, v))
    return q, k, v


def _scores(tape: Tape, q: Value, k: Value, autocast: int) -> Value:
    """`alibi.baddbmm(q, k)`: under autocast the slopes are cast as well."""
    if autocast:
        k = cast(tape, k, autocast)
        q = cast(tape, q, autocast)
    slopes = tape.new(autocast, ("b", "H", "s")) if autocast and autocast != 4 else None
    scores = bmm(tape, q, k, _SCORES)
    del slopes
    return scores
