"""Multi-head latent attention: keys and values of all heads come out of one narrow latent.

Source: transformers 5.23 models/deepseek_v3/modeling_deepseek_v3.py, DeepseekV3Attention (forward, expand_kv); V2
rotates by complex numbers, V3 and GLM-4.7-Flash by interleaved pairs. Values are narrower than keys, so that flash
attention refuses (sdp_utils.cpp, check_head_dim_size_flash) and the mem-efficient kernel runs.
"""

from planner.families.parts import Latent, Linear
from planner.timeline.attend import attend
from planner.timeline.attention import QKV, Shared
from planner.timeline.indexer import sparse_mask
from planner.timeline.norms import norm
from planner.timeline.ops import relayout_gradient, view
from planner.timeline.pairs import complex_pairs, interleaved_pairs
from planner.timeline.pieces import concatenate, split
from planner.timeline.projections import Projector
from planner.timeline.rotary import turn
from planner.timeline.tape import Buffer, Outcome, Tape, Value


def latent_attention(tape: Tape, part: Latent, x: Value, project: Projector, shared: Shared) -> Value:
    """`self_attn(x)`."""
    mask = shared.mask if project.layer.masked else None
    with tape.cause(QKV):
        low = _low(tape, part, x, project)
        q = relayout_gradient(tape, project(part.q, low))
        if part.indexer is None:
            del low
        q_pass, q_rot = split(tape, q, (("T", "q nope"), ("T", "q rot")))
        compressed = project(part.kv_a, x)
        narrow, k_rot = split(tape, compressed, (("T", "kv low"), ("T", "k rot")))
        narrow = norm(tape, part.kv_norm, narrow, project.switches)
        q_rot, k_rot = _turn(tape, part, q_rot, k_rot, shared)
        query = concatenate(tape, (q_pass, q_rot), ("T", "q"))
        key, value = _expand(tape, part.kv_b, narrow, k_rot, project)
        masks: tuple[Value, ...] = ()
        if part.indexer and shared.tables:
            masks = sparse_mask(tape, part.indexer, (x, low), shared.tables, project)
            mask = masks[0]
        out, weights = attend(tape, (query, key, value), project.switches, project.layer, mask)
        project.named += weights
        del masks, q, q_pass, query, key, value, compressed, narrow, k_rot, q_rot
        return project(part.o, out)


def _low(tape: Tape, part: Latent, x: Value, project: Projector) -> Value:
    """What queries are made of: a normed latent of their own, or x itself."""
    if not (part.q_a and part.q_norm):
        return x
    return norm(tape, part.q_norm, project(part.q_a, x), project.switches)


def _turn(tape: Tape, part: Latent, q: Value, k: Value, shared: Shared) -> tuple[Value, Value]:
    if shared.tables is None:
        return q, k
    if part.rotary == "complex":
        return complex_pairs(tape, q, k, shared.tables)
    if part.rotary == "interleaved":
        return (
            interleaved_pairs(tape, q, shared.tables, ("T", "q half")),
            interleaved_pairs(tape, k, shared.tables, ("T", "k half")),
        )
    return turn(tape, q, shared.tables, "full", "q rot"), turn(tape, k, shared.tables, "full", "k rot")


def _expand(tape: Tape, part: Linear, x: Value, k_rot: Value, project: Projector) -> tuple[Value, Value]:
    """`expand_kv`: keys are written into an empty tensor, a part of each head at a time."""
    wide = relayout_gradient(tape, project(part, x))
    k_pass, value = split(tape, wide, (("T", "q nope"), ("T", "v")))
    each = k_pass.each
    key = tape.new(each, ("T", "q"))
    edges = (k_pass.edge, k_rot.edge)
    if not tape.needs(k_pass, k_rot):
        return Value(key, each, ("T", "q")), value

    def to_heads(_: Buffer) -> Outcome:
        summed = tape.new(each, ("T", "k rot"))
        return ((edges[1], summed),)

    expanded = tape.node(to_heads)

    def first(_: Buffer) -> Outcome:
        copied = tape.new(each, ("T", "q"))
        own = tape.new(each, ("T", "q nope"))
        del copied
        return ((edges[0], own),)

    inner = tape.node(first)

    def second(_: Buffer) -> Outcome:
        copied = tape.new(each, ("T", "q"))
        own = tape.new(each, ("T", "q rot"))
        blank = tape.new(each, ("T", "q rot"))
        del blank
        return (inner, copied), (expanded, own)

    edge = tape.node(second)
    return Value(key, each, ("T", "q"), edge), view(value, ("T", "v"))
