"""One decoder layer: how norms, attention, MLP and residuals are wired."""

from planner.families.parts import Block, Experts, GatedMlp, PlainMlp
from planner.timeline.attention import Shared, attention
from planner.timeline.mlps import gated, plain_mlp
from planner.timeline.norms import norm
from planner.timeline.ops import add
from planner.timeline.projections import Projector
from planner.timeline.tape import Tape, Value

RESIDUAL = "residual stream"


def block(tape: Tape, part: Block, x: Value, project: Projector, shared: Shared) -> Value:
    """Walk one layer; `x` is its input, the residual stream."""
    if part.wiring == "pre":
        return _pre(tape, part, x, project, shared)
    msg = f"wiring {part.wiring} has no walk yet"
    raise NotImplementedError(msg)


def _pre(tape: Tape, part: Block, x: Value, project: Projector, shared: Shared) -> Value:
    first, second = part.norms
    with tape.cause(RESIDUAL):
        out = _attend(tape, part, norm(tape, first, x, project.switches), project, shared)
        x = add(tape, x, out)
        del out
        out = _feed(tape, part, norm(tape, second, x, project.switches), project)
        return add(tape, x, out)


def _attend(tape: Tape, part: Block, x: Value, project: Projector, shared: Shared) -> Value:
    if part.attention is None:
        msg = "a block without attention has no walk"
        raise NotImplementedError(msg)
    return attention(tape, part.attention, x, project, shared)


def _feed(tape: Tape, part: Block, x: Value, project: Projector) -> Value:
    if isinstance(part.mlp, GatedMlp):
        return gated(tape, part.mlp, x, project)
    if isinstance(part.mlp, PlainMlp):
        return plain_mlp(tape, part.mlp, x, project)
    if isinstance(part.mlp, Experts):
        msg = "experts have no walk yet"
        raise NotImplementedError(msg)
    msg = "a block without an MLP has no walk"
    raise NotImplementedError(msg)
