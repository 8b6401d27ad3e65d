"""Falcon's eager attention: scores scaled in place, their softmax in the hidden states' dtype.

Source: transformers 5.23 models/falcon/modeling_falcon.py, FalconAttention.forward.
"""

from planner.timeline.attend import SCORES, repeat, softmax, spread
from planner.timeline.ops import add, bmm, cast, clone, scale_in_place
from planner.timeline.projections import Projector
from planner.timeline.tape import Dims, Tape, Value

_SCORES = ("T", "H", "s")


def attend_with_own_scores(
    tape: Tape, qkv: tuple[Value, Value, Value], project: Projector, mask: Value | None, each: int
) -> tuple[Value, Value]:
    """The result and the probabilities, which have `each` bytes."""
    q, k, v = qkv
    with tape.cause(SCORES):
        scores = scale_in_place(tape, _product(tape, (q, k), _SCORES, project))
        weights = softmax(tape, cast(tape, add(tape, scores, mask) if mask else scores, each))
        del scores
        return clone(tape, _product(tape, (weights, v), q.dims, project)), weights


def _product(tape: Tape, sides: tuple[Value, Value], dims: Dims, project: Projector) -> Value:
    """`a @ b`; autocast casts float32 sides first, b before a."""
    a, b = sides
    if project.switches.autocast:
        b = cast(tape, b, project.switches.autocast)
        a = cast(tape, a, project.switches.autocast)
    first = a if a.dims == _SCORES else _one_dimension(tape, a, project)
    return bmm(tape, first, _one_dimension(tape, b, project), dims)


def _one_dimension(tape: Tape, x: Value, project: Projector) -> Value:
    """Sequences and heads as one: of one sequence a view, of more a copy, in which a single key head is repeated."""
    one = project.switches.one_sequence
    if x.dims == ("T", "k"):
        return spread(tape, x) if one else repeat(tape, x)
    return x if one else clone(tape, x)
