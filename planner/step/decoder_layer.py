"""One decoder layer: how norms, attention, MLP and residuals are wired."""

from typing import NamedTuple

from planner.families.mixers import DeltaNet, GatedConvolution, Mamba2, SplitDeltaNet
from planner.families.parts import Attention, Block, Experts, GatedMlp, Mixer, Norm, PlainMlp
from planner.step.attention.gated import gated_attention
from planner.step.attention.gemma4_shared_kv import attention_sharing_keys, shares_keys
from planner.step.attention.multi_head_latent import latent_attention
from planner.step.attention.standard import Shared, attention
from planner.step.engine.graph import Graph, SharedShelf, Value, framed
from planner.step.engine.ops import add, cast, dropout, scale_in_place, unary
from planner.step.feed_forward.mixture import experts
from planner.step.feed_forward.mlp import gated, inline_mlp, plain_mlp
from planner.step.feed_forward.parallel_experts import with_experts
from planner.step.gemma4_layer_inputs import with_layer_input
from planner.step.norms import norm
from planner.step.projections.linear import Projector
from planner.step.recurrent.deltanet import delta_net, split_delta_net
from planner.step.recurrent.gated_convolution import gated_convolution
from planner.step.recurrent.mamba2 import mamba2

RESIDUAL = "residual stream"


@framed
def block(graph: Graph, part: Block, x: Value, project: Projector, shared: Shared) -> Value:
    """Trace one layer; `x` is its input, the residual stream."""
    try:
        out = _block(graph, part, x, project, shared)
        if part.returns_weights and project.switches.checkpointing and project.switches.reentrant:
            graph.returned.put([*project.named])
        if part.returns_weights and not graph.runs_backward:
            graph.outputs.refill(project.named)
        with graph.cause(RESIDUAL):
            if part.layer_input and shared.layer_input:
                out = with_layer_input(graph, part.layer_input, out, project, shared.layer_input)
            return scale_in_place(graph, out) if part.scaled_output else out
    finally:
        project.named.clear()


@framed
def _block(graph: Graph, part: Block, x: Value, project: Projector, shared: Shared) -> Value:
    with graph.cause(RESIDUAL):
        if part.wiring == "parallel":
            return _parallel(graph, part, x, project, shared)
        if part.wiring == "single":
            half = _Half(graph, part, project, graph.hold(SharedShelf()))
            return half(x, shared if part.attention else None, part.norms[0], None)
        if part.wiring == "post":
            before: tuple[Norm | None, Norm | None] = (None, None)
            after: tuple[Norm | None, Norm | None] = (part.norms[0], part.norms[1])
        elif part.wiring == "sandwich":
            before, after = (part.norms[0], part.norms[2]), (part.norms[1], part.norms[3])
        else:
            before, after = (part.norms[0], part.norms[1]), (None, None)
        half = _Half(graph, part, project, graph.hold(SharedShelf()))
        x = graph.replace(x, half(x, shared, before[0], after[0]))
        return half(x, None, before[1], after[1])


class _Half(NamedTuple):
    """Half a layer, `x + norm(part(norm(x)))`. What keeps a name in the layer's code goes to `held`."""

    graph: Graph
    part: Block
    project: Projector
    held: SharedShelf

    @framed
    def __call__(self, x: Value, shared: Shared | None, before: Norm | None, after: Norm | None) -> Value:
        """Attention where `shared` is given, the MLP otherwise."""
        graph, part, project = self.graph, self.part, self.project
        # A layer of one mixer casts its input to the norm's dtype (modeling_nemotron_h.py, NemotronHBlock).
        entering = cast(graph, x, project.switches.residual) if part.wiring == "single" else x
        out = graph.hold(norm(graph, before, entering, project.switches) if before else entering)
        if part.lingers == "both":
            self.held.put(out)
        if shared is None and part.mlp_inline:
            out = graph.hold(inline_mlp(graph, part.mlp, graph.move(out), project))
        else:
            fed = _feed(graph, part, out, project) if shared is None else _attend(graph, part, out, project, shared)
            out = graph.replace(out, fed)
        if part.parallel_experts and shared is None:
            out = graph.replace(out, with_experts(graph, part.parallel_experts, out, x, project))
        if after:
            out = graph.replace(out, norm(graph, after, out, project.switches))
        if part.scaled_residual:
            out = graph.replace(out, unary(graph, out))
        if part.dropout:
            out = graph.replace(out, dropout(graph, out))
        if part.lingers:
            self.held.put(out)
        return add(graph, x, out)


@framed
def _parallel(graph: Graph, part: Block, x: Value, project: Projector, shared: Shared) -> Value:
    """`x + attention(norm(x)) + mlp(norm(x))`, from one norm or from two of the same input."""
    two = len(part.norms) > 1
    inner = graph.hold(norm(graph, part.norms[0], x, project.switches))
    second = norm(graph, part.norms[1], x, project.switches) if two and part.norms_first else inner
    attended = graph.hold(_attend(graph, part, inner, project, shared))
    if two and not part.norms_first:
        graph.release(inner)
        second = norm(graph, part.norms[1], x, project.switches)
    fed = graph.hold(_feed(graph, part, second, project))
    if part.residual_last:
        return add(graph, add(graph, attended, fed), x)
    return add(graph, add(graph, x, attended), fed)


@framed
def _attend(graph: Graph, part: Block, x: Value, project: Projector, shared: Shared) -> Value:
    if isinstance(part.attention, Attention):
        if shares_keys(part.attention):
            return attention_sharing_keys(graph, part.attention, x, project, shared)
        if part.attention.gated:
            return gated_attention(graph, part.attention, x, project, shared)
        return attention(graph, part.attention, x, project, shared)
    if isinstance(part.attention, Mixer):
        if shared.cache:
            shared.cache.keep_states(x.each, part.attention.state)
        return _mix(graph, part.attention, x, project)
    if part.attention is not None:
        return latent_attention(graph, part.attention, x, project, shared)
    msg = "a block without attention cannot be traced"
    raise NotImplementedError(msg)


@framed
def _mix(graph: Graph, mixer: Mixer, x: Value, project: Projector) -> Value:
    if isinstance(mixer, DeltaNet):
        return delta_net(graph, mixer, x, project)
    if isinstance(mixer, SplitDeltaNet):
        return split_delta_net(graph, mixer, x, project)
    if isinstance(mixer, Mamba2):
        return mamba2(graph, mixer, x, project)
    if isinstance(mixer, GatedConvolution):
        return gated_convolution(graph, mixer, x, project)
    msg = f"no trace of a {type(mixer).__name__} layer: add its file in planner/step/recurrent/ and its case here"
    raise NotImplementedError(msg)


@framed
def _feed(graph: Graph, part: Block, x: Value, project: Projector) -> Value:
    if isinstance(part.mlp, GatedMlp):
        return gated(graph, part.mlp, x, project)
    if isinstance(part.mlp, PlainMlp):
        return plain_mlp(graph, part.mlp, x, project)
    if isinstance(part.mlp, Experts):
        return experts(graph, part.mlp, x, project)
    msg = "a block without an MLP cannot be traced"
    raise NotImplementedError(msg)
