"""Falcon's eager attention: scores scaled in place, their softmax in the hidden states' dtype.

Source: transformers 5.23 models/falcon/modeling_falcon.py, FalconAttention.forward.
"""

from planner.step.attention.kernels import SCORES, repeat, spread
from planner.step.attention.softmax import softmax
from planner.step.engine.graph import Dims, Graph, Value, framed
from planner.step.engine.ops import add, bmm, cast, clone, scale_in_place
from planner.step.projections.linear import Projector

_SCORES = ("T", "H", "s")


@framed
def attend_with_own_scores(
    graph: Graph, qkv: tuple[Value, Value, Value], project: Projector, mask: Value | None, each: int
) -> tuple[Value, Value]:
    """The result and the probabilities, which have `each` bytes."""
    q, k, v = graph.hold(qkv)
    with graph.cause(SCORES):
        scores = graph.hold(scale_in_place(graph, _product(graph, (q, k), _SCORES, project)))
        # The call of softmax holds what it was given, beside a copy in another dtype.
        masked = graph.hold(add(graph, scores, mask) if mask else scores)
        weights = graph.hold(softmax(graph, cast(graph, masked, each)))
        graph.release(scores, masked)
        return clone(graph, _product(graph, (weights, v), q.dims, project)), weights


@framed
def _product(graph: Graph, sides: tuple[Value, Value], dims: Dims, project: Projector) -> Value:
    """`a @ b`; autocast casts float32 sides first, b before a."""
    a, b = graph.hold(sides)
    if project.switches.autocast:
        b = graph.replace(b, cast(graph, b, project.switches.autocast))
        a = graph.replace(a, cast(graph, a, project.switches.autocast))
    first = graph.hold(a if a.dims == _SCORES else _one_dimension(graph, a, project))
    return bmm(graph, first, _one_dimension(graph, b, project), dims)


@framed
def _one_dimension(graph: Graph, x: Value, project: Projector) -> Value:
    """Sequences and heads as one: of one sequence a view, of more a copy, in which a single key head is repeated."""
    one = project.switches.one_sequence
    if x.dims == ("T", "k"):
        return spread(graph, x) if one else repeat(graph, x)
    return x if one else clone(graph, x)
