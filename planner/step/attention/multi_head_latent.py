"""Multi-head latent attention: keys and values of all heads come out of one narrow latent.

Source: transformers 5.23 models/deepseek_v3/modeling_deepseek_v3.py, DeepseekV3Attention (forward, expand_kv); V2
rotates by complex numbers, V3 and GLM-4.7-Flash by interleaved pairs. Values are narrower than keys, so that flash
attention refuses (sdp_utils.cpp, check_head_dim_size_flash) and the mem-efficient kernel runs.
"""

from planner.families.parts import Latent, Linear
from planner.step.attention.deepseek_indexer import sparse_mask
from planner.step.attention.kernels import attend
from planner.step.attention.rotary import turn
from planner.step.attention.rotary_pairs import complex_pairs, interleaved_pairs
from planner.step.attention.standard import QKV, Shared
from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed
from planner.step.engine.ops import relayout_gradient, view
from planner.step.engine.slice_ops import concatenate, split
from planner.step.norms import norm
from planner.step.projections.linear import Projector


@framed
def latent_attention(graph: Graph, part: Latent, x: Value, project: Projector, shared: Shared) -> Value:
    """`self_attn(x)`."""
    mask = shared.mask if project.layer.masked else None
    with graph.cause(QKV):
        low = graph.hold(_low(graph, part, x, project))
        q = relayout_gradient(graph, project(part.q, low))
        if part.indexer is None:
            graph.release(low)
        q_pass, q_rot = graph.hold(split(graph, q, (("T", "q nope"), ("T", "q rot"))))
        compressed = graph.hold(project(part.kv_a, x))
        narrow, k_rot = graph.hold(split(graph, compressed, (("T", "kv low"), ("T", "k rot"))))
        narrow = graph.replace(narrow, norm(graph, part.kv_norm, narrow, project.switches))
        q_rot, k_rot = graph.replace((q_rot, k_rot), _turn(graph, part, q_rot, k_rot, shared))
        if shared.cache:
            if part.indexer:
                shared.cache.keep(x.each, ("T", "index d"))
            narrow, k_rot = graph.replace((narrow, k_rot), shared.cache.update(narrow, k_rot))
        query = concatenate(graph, (q_pass, q_rot), ("T", "q"))
        key, value = graph.hold(_expand(graph, part.kv_b, narrow, k_rot, project))
        masks: tuple[Value, ...] = ()
        if part.indexer and shared.tables:
            masks = graph.hold(sparse_mask(graph, part.indexer, (x, low), shared.tables, project))
            mask = graph.replace(mask, masks[0])
        out, weights = attend(graph, (query, key, value), project.switches, project.layer, mask)
        project.named.put(weights)
        graph.release(masks, q_pass, key, value, compressed, narrow, k_rot, q_rot)
        return project(part.o, out)


@framed
def _low(graph: Graph, part: Latent, x: Value, project: Projector) -> Value:
    """What queries are made of: a normed latent of their own, or x itself."""
    if not (part.q_a and part.q_norm):
        return x
    return norm(graph, part.q_norm, project(part.q_a, x), project.switches)


@framed
def _turn(graph: Graph, part: Latent, q: Value, k: Value, shared: Shared) -> tuple[Value, Value]:
    if shared.tables is None:
        return q, k
    if part.rotary == "complex":
        return complex_pairs(graph, q, k, shared.tables)
    if part.rotary == "interleaved":
        return (
            interleaved_pairs(graph, q, shared.tables, ("T", "q half")),
            interleaved_pairs(graph, k, shared.tables, ("T", "k half")),
        )
    return turn(graph, q, shared.tables, "full", "q rot"), turn(graph, k, shared.tables, "full", "k rot")


@framed
def _expand(graph: Graph, part: Linear, x: Value, k_rot: Value, project: Projector) -> tuple[Value, Value]:
    """`expand_kv`: keys are written into an empty tensor, a part of each head at a time."""
    wide = relayout_gradient(graph, project(part, x))
    k_pass, value = split(graph, wide, (("T", "q nope"), ("T", "v")))
    each = k_pass.each
    key = graph.new(each, (x.dims[0], "q"))
    edges = (k_pass.edge, k_rot.edge)
    if not graph.needs(k_pass, k_rot):
        return Value(key, each, ("T", "q")), value

    def to_heads(_: Buffer) -> Outcome:
        summed = graph.new(each, ("T", "k rot"))
        return ((edges[1], summed),)

    expanded = graph.node(to_heads)

    def first(_: Buffer) -> Outcome:
        copied = graph.new(each, ("T", "q"))
        own = graph.new(each, ("T", "q nope"))
        graph.release(copied)
        return ((edges[0], own),)

    inner = graph.node(first)

    def second(_: Buffer) -> Outcome:
        copied = graph.new(each, ("T", "q"))
        own = graph.new(each, ("T", "q rot"))
        blank = graph.new(each, ("T", "q rot"))
        graph.release(blank)
        return (inner, copied), (expanded, own)

    edge = graph.node(second)
    return Value(key, each, ("T", "q"), edge), view(value, ("T", "v"))
