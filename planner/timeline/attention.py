"""Attention: projections, head norms, rotary embedding, and the kernels' own memory.

Sources: transformers 5.23 models/llama/modeling_llama.py LlamaAttention and integrations/sdpa_attention.py;
flash: torch aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp.
"""

from planner.families.parts import Attention
from planner.timeline.norms import norm
from planner.timeline.ops import add, cast, mul, relayout_gradient, view
from planner.timeline.projections import Projector
from planner.timeline.switches import LayerSwitches, Switches
from planner.timeline.tape import Buffer, Outcome, Tape, Value

WORKSPACE = "attention backward workspace"


def attention(tape: Tape, part: Attention, x: Value, project: Projector, tables: Value) -> Value:
    """`self_attn(x)`; `tables` stands for cos and sin."""
    switches, layer = project.switches, project.layer
    with tape.cause("attention: q, k, v and output"):
        q, k, v = _project(tape, part, x, project)
        q, k = _rotate(tape, q, tables), _rotate(tape, k, tables)
        out = kernel(tape, q, k, v, switches, layer)
        return project(part.o, out)


def _project(tape: Tape, part: Attention, x: Value, project: Projector) -> tuple[Value, Value, Value]:
    if not (part.q and part.k and part.v):
        msg = "attention without separate projections has no walk yet"
        raise NotImplementedError(msg)
    held, trained = project.switches.residual, project.switches.trains_base
    q = relayout_gradient(tape, project(part.q, x))
    if part.q_norm:
        q = view(norm(tape, part.q_norm, view(q, ("T", "H", "d")), held, trained), ("T", "q"))
    k = relayout_gradient(tape, project(part.k, x))
    if part.k_norm:
        k = view(norm(tape, part.k_norm, view(k, ("T", "K", "d")), held, trained), ("T", "k"))
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


def kernel(tape: Tape, q: Value, k: Value, v: Value, switches: Switches, layer: LayerSwitches) -> Value:
    """The attention kernel of this layer. Autocast runs it in 16 bit (autocast_mode.h, lower precision list)."""
    if switches.autocast:
        q, k, v = (cast(tape, value, switches.autocast) for value in (q, k, v))
    if layer.kernel in {"flash", "cudnn", "flash_attention_2"}:
        return _flash(tape, q, k, v)
    msg = f"attention kernel {layer.kernel} has no walk yet"
    raise NotImplementedError(msg)


def _flash(tape: Tape, q: Value, k: Value, v: Value) -> Value:
    """Saves q, k, v, the output and a float32 log-sum-exp per head and token; two 512-byte random states.

    Backward (mha_bwd): dq accumulated in float32 over rows padded to 128 and heads padded to 32 or 64, softmax_d,
    and dk, dv expanded to all query heads where keys are grouped.
    """
    each, dims, grouped = q.each, q.dims, k.dims != q.dims
    inputs = tuple((value.edge, value.dims) for value in (q, k, v))
    saved = tape.save(q, k, v) if tape.needs(q, k, v) else None
    out = tape.new(each, dims)
    lse = tape.new(4, ("T", "H"))
    states = tape.new(16, ()), tape.new(8, ())
    if saved is None:
        return Value(out, each, dims)

    def backward(_: Buffer) -> Outcome:
        work = [tape.new(4, ("flash dq",), WORKSPACE), tape.new(4, ("flash lse",), WORKSPACE)]
        if grouped:
            work += [tape.new(each, ("T", "q"), WORKSPACE) for _ in "kv"]
        grads = tuple((edge, tape.new(each, own)) for edge, own in inputs)
        del work
        return grads

    edge = tape.node(backward, saved + tape.save(out, lse, *states))
    return Value(out, each, dims, edge)
