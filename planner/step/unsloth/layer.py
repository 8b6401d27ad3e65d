"""One decoder layer as Unsloth runs it.

Source: unsloth 2026.10.9 models/llama.py (LlamaDecoderLayer_fast_forward, LlamaAttention_fast_forward), which Mistral
and Qwen 2 share; models/qwen3.py adds norms of heads, models/gemma.py another norm and activation.
"""

from planner.families.parts import Attention, Block, GatedMlp, Norm
from planner.step.attention.standard import QKV
from planner.step.decoder_layer import RESIDUAL
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import add, relayout_gradient, view
from planner.step.feed_forward.mlp import gated
from planner.step.projections.linear import Projector
from planner.step.unsloth import lora
from planner.step.unsloth.kernels import attend, norm, rotated


@framed
def block(graph: Graph, part: Block, x: Value, project: Projector) -> Value:
    """`x + attention(norm(x))`, then the same with the MLP."""
    if not (isinstance(part.attention, Attention) and isinstance(part.mlp, GatedMlp)):
        msg = "Unsloth's own layers are of attention and a gated MLP"
        raise NotImplementedError(msg)
    overwrites = part.norms[0].kind == "rms"  # of Gemma's norm the gradient is a tensor of its own
    with graph.cause(RESIDUAL):
        inner = norm(graph, x, overwrites=overwrites)
        inner = graph.replace(inner, _attention(graph, part.attention, inner, project))
        x = graph.replace(x, add(graph, x, inner))
        inner = graph.replace(inner, norm(graph, x, overwrites=overwrites))
        inner = graph.replace(inner, _mlp(graph, part.mlp, inner, project))
        return add(graph, x, inner)


@framed
def _mlp(graph: Graph, part: GatedMlp, x: Value, project: Projector) -> Value:
    if lora.fused(project, part.gate, part.up, part.down):
        return lora.mlp(graph, part, x, project)
    return gated(graph, part, x, project)


@framed
def _attention(graph: Graph, part: Attention, x: Value, project: Projector) -> Value:
    with graph.cause(QKV):
        q, k, v = graph.hold(_projected(graph, part, x, project))
        q, k = graph.replace((q, k), rotated(graph, q, k, one_head=project.layer.one_group))
        out = attend(graph, (q, k, v), project.switches, project.layer)
        if lora.fused(project, part.o):
            return lora.output(graph, part.o, out, project)
        return project(part.o, out)


@framed
def _projected(graph: Graph, part: Attention, x: Value, project: Projector) -> tuple[Value, Value, Value]:
    if lora.fused(project, part.q, part.k, part.v):
        q, k, v = graph.hold(lora.qkv(graph, part, x, project))
    elif part.q and part.k and part.v:
        q, k, v = project(part.q, x), project(part.k, x), project(part.v, x)
    else:
        msg = "Unsloth's own layers have projections for q, k and v"
        raise NotImplementedError(msg)
    q, k = _head_normed(graph, part.q_norm, q), _head_normed(graph, part.k_norm, k)
    # Padded, torch's varlen kernel hands the gradient of v back token by token.
    return q, k, v if project.switches.padded else relayout_gradient(graph, v)


@framed
def _head_normed(graph: Graph, part: Norm | None, x: Value) -> Value:
    """The norm over each head of Qwen 3; then the gradient of the transposed view is copied back."""
    x = relayout_gradient(graph, x)
    if part is None:
        return x
    return view(norm(graph, view(x, ("T", *part.per, "d")), overwrites=False), x.dims)
