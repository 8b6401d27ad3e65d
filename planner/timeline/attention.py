"""Attention: projections, head norms, rotary embedding, and the kernels' own memory.

Sources: transformers 5.23 models/llama/modeling_llama.py LlamaAttention and integrations/sdpa_attention.py;
flash: torch aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp.
"""

from dataclasses import dataclass

from planner.families.parts import Attention
from planner.timeline.norms import norm
from planner.timeline.attend import attend
from planner.timeline.ops import add, mul, relayout_gradient, view
from planner.timeline.projections import Projector
from planner.timeline.switches import LayerSwitches
from planner.timeline.tape import Buffer, Outcome, Tape, Value


@dataclass(frozen=True, slots=True)
class Shared:
    """What every layer reads: cos (sin is its twin), a mask where one is made, and the ids that live as long."""

    tables: Value
    mask: Value | None
    held: tuple[Value, ...]


def attention(tape: Tape, part: Attention, x: Value, project: Projector, shared: Shared) -> Value:
    """`self_attn(x)`."""
    tables, mask = shared.tables, shared.mask if project.layer.masked else None
    switches, layer = project.switches, project.layer
    with tape.cause("attention: q, k, v and output"):
        q, k, v = _project(tape, part, x, project)
        if not project.switches.liger:  # Liger turns q and k in place, forward and backward (ops/rope.py)
            q, k = _rotate(tape, q, tables), _rotate(tape, k, tables)
        if _summed(layer, part):
            v = relayout_gradient(tape, v)
        out = attend(tape, (q, k, v), switches, layer, mask)
        return project(part.o, out)


def _summed(layer: LayerSwitches, part: Attention) -> bool:
    """Whether the values' gradient arrives head by head and has to be copied back to token order."""
    return layer.kernel in {"eager", "math"} or (layer.expands and part.grouped)


def _project(tape: Tape, part: Attention, x: Value, project: Projector) -> tuple[Value, Value, Value]:
    if not (part.q and part.k and part.v):
        msg = "attention without separate projections has no walk yet"
        raise NotImplementedError(msg)
    relayout = (lambda _, value: value) if project.switches.liger else relayout_gradient
    q = relayout(tape, project(part.q, x))
    if part.q_norm:
        q = view(norm(tape, part.q_norm, view(q, ("T", "H", "d")), project.switches), ("T", "q"))
    k = relayout(tape, project(part.k, x))
    if part.k_norm:
        k = view(norm(tape, part.k_norm, view(k, ("T", "K", "d")), project.switches), ("T", "k"))
    return q, k, project(part.v, x)


def _rotate(tape: Tape, x: Value, tables: Value) -> Value:
    """`x * cos + rotate_half(x) * sin`. Nothing but the tables is saved."""
    straight = mul(tape, x, tables)
    crossed = mul(tape, _rotate_half(tape, x), tables)
    return add(tape, straight, crossed)


def _rotate_half(tape: Tape, x: Value) -> Value:
    """`cat((-x2, x1))`. Its backward fills a whole tensor per half (slice_backward) and adds the two."""
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        negated = tape.new(each, dims, den=2)
        second = tape.new(each, dims)
        del negated
        return (edge_in, second), (edge_in, tape.new(each, dims))

    edge = tape.node(backward) if tape.needs(x) else None
    negated = tape.new(each, dims, den=2)
    out = tape.new(each, dims)
    del negated
    return Value(out, each, dims, edge)
