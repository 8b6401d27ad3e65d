"""One decoder layer: how norms, attention, MLP and residuals are wired."""

from typing import NamedTuple

from planner.families.parts import Attention, Block, DeltaNet, Experts, GatedMlp, Mamba2, Norm, PlainMlp
from planner.timeline.attention import Shared, attention
from planner.timeline.beside import with_experts
from planner.timeline.deltanet import delta_net
from planner.timeline.experts import experts
from planner.timeline.gated_attention import gated_attention
from planner.timeline.latent import latent_attention
from planner.timeline.layer_inputs import with_layer_input
from planner.timeline.mamba2 import mamba2
from planner.timeline.mlps import gated, plain_mlp
from planner.timeline.norms import norm
from planner.timeline.ops import add, cast, dropout, scale_in_place, unary
from planner.timeline.projections import Projector
from planner.timeline.shared_keys import attention_sharing_keys, shares_keys
from planner.timeline.tape import Tape, Value

RESIDUAL = "residual stream"


def block(tape: Tape, part: Block, x: Value, project: Projector, shared: Shared) -> Value:
    """Walk one layer; `x` is its input, the residual stream."""
    try:
        out = _block(tape, part, x, project, shared)
        if part.returns_weights and project.switches.checkpointing and project.switches.reentrant:
            tape.returned += project.named
        with tape.cause(RESIDUAL):
            if part.layer_input and shared.layer_input:
                out = with_layer_input(tape, part.layer_input, out, project, shared.layer_input)
            return scale_in_place(tape, out) if part.scaled_output else out
    finally:
        project.named.clear()


def _block(tape: Tape, part: Block, x: Value, project: Projector, shared: Shared) -> Value:
    with tape.cause(RESIDUAL):
        if part.wiring == "parallel":
            return _parallel(tape, part, x, project, shared)
        if part.wiring == "single":
            return _Half(tape, part, project, [])(x, shared if part.attention else None, part.norms[0], None)
        if part.wiring == "post":
            before: tuple[Norm | None, Norm | None] = (None, None)
            after: tuple[Norm | None, Norm | None] = (part.norms[0], part.norms[1])
        elif part.wiring == "sandwich":
            before, after = (part.norms[0], part.norms[2]), (part.norms[1], part.norms[3])
        else:
            before, after = (part.norms[0], part.norms[1]), (None, None)
        half = _Half(tape, part, project, [])
        x = half(x, shared, before[0], after[0])
        return half(x, None, before[1], after[1])


class _Half(NamedTuple):
    """Half a layer, `x + norm(part(norm(x)))`. What keeps a name in the layer's code goes to `held`."""

    tape: Tape
    part: Block
    project: Projector
    held: list[Value]

    def __call__(self, x: Value, shared: Shared | None, before: Norm | None, after: Norm | None) -> Value:
        """Attention where `shared` is given, the MLP otherwise."""
        tape, part, project = self.tape, self.part, self.project
        # A layer of one mixer casts its input to the norm's dtype (modeling_nemotron_h.py, NemotronHBlock).
        entering = cast(tape, x, project.switches.residual) if part.wiring == "single" else x
        out = norm(tape, before, entering, project.switches) if before else entering
        del entering
        if part.lingers == "both":
            self.held.append(out)
        out = _feed(tape, part, out, project) if shared is None else _attend(tape, part, out, project, shared)
        if part.beside and shared is None:
            out = with_experts(tape, part.beside, out, x, project)
        if after:
            out = norm(tape, after, out, project.switches)
        if part.scaled_residual:
            out = unary(tape, out)
        if part.dropout:
            out = dropout(tape, out)
        if part.lingers:
            self.held.append(out)
        return add(tape, x, out)


def _parallel(tape: Tape, part: Block, x: Value, project: Projector, shared: Shared) -> Value:
    """`x + attention(norm(x)) + mlp(norm(x))`, from one norm or from two of the same input."""
    two = len(part.norms) > 1
    inner = norm(tape, part.norms[0], x, project.switches)
    second = norm(tape, part.norms[1], x, project.switches) if two and part.norms_first else inner
    attended = _attend(tape, part, inner, project, shared)
    if two and not part.norms_first:
        del inner, second
        second = norm(tape, part.norms[1], x, project.switches)
    fed = _feed(tape, part, second, project)
    del second
    return add(tape, add(tape, x, attended), fed)


def _attend(tape: Tape, part: Block, x: Value, project: Projector, shared: Shared) -> Value:
    if isinstance(part.attention, Attention):
        if shares_keys(part.attention):
            return attention_sharing_keys(tape, part.attention, x, project, shared)
        if part.attention.gated:
            return gated_attention(tape, part.attention, x, project, shared)
        return attention(tape, part.attention, x, project, shared)
    if isinstance(part.attention, DeltaNet):
        return delta_net(tape, part.attention, x, project)
    if isinstance(part.attention, Mamba2):
        return mamba2(tape, part.attention, x, project)
    if part.attention is not None:
        return latent_attention(tape, part.attention, x, project, shared)
    msg = "a block without attention has no walk"
    raise NotImplementedError(msg)


def _feed(tape: Tape, part: Block, x: Value, project: Projector) -> Value:
    if isinstance(part.mlp, GatedMlp):
        return gated(tape, part.mlp, x, project)
    if isinstance(part.mlp, PlainMlp):
        return plain_mlp(tape, part.mlp, x, project)
    if isinstance(part.mlp, Experts):
        return experts(tape, part.mlp, x, project)
    msg = "a block without an MLP has no walk"
    raise NotImplementedError(msg)
