"""The attention kernels: what each allocates, saves and takes while it runs backward.

`s` is the length of a sequence, so that ("T", "H", "s") counts every score of every head.
"""

from planner.timeline.ops import add, bmm, cast, clone, dropout, relayout_gradient, unary
from planner.timeline.switches import LayerSwitches, Switches
from planner.timeline.tape import Buffer, Dims, Outcome, Tape, Value
from planner.timeline.unpadded import without_padding

WORKSPACE = "attention backward workspace"
SCORES = "attention scores"
_SCORES = ("T", "H", "s")
# Values of latent attention, narrower than its keys and never grouped.
_LATENT = ("T", "v")
# The flash backward's padded rows: sequence by sequence, or all of a row of tokens.
_ROWS_OF = {"T": "flash", "kept": "flash row"}


def attend(
    tape: Tape, qkv: tuple[Value, Value, Value], switches: Switches, layer: LayerSwitches, mask: Value | None
) -> tuple[Value, tuple[Value, ...]]:
    """Run this layer's kernel; the result has the dims of q's heads and v's width. Eager returns its scores too."""
    if layer.kernel == "eager":
        out, weights = _eager(tape, qkv, layer, mask, switches)
        return out, (weights,)
    return _fused(tape, qkv, switches, layer, mask), ()


def _fused(
    tape: Tape, qkv: tuple[Value, Value, Value], switches: Switches, layer: LayerSwitches, mask: Value | None
) -> Value:
    """`scaled_dot_product_attention` with the kernel that torch picks."""
    q, k, v = qkv
    if layer.expands:
        k, v = (spread(tape, value) if layer.one_group else repeat(tape, value) for value in (k, v))
    if switches.autocast:
        # scaled_dot_product_attention is on autocast's lower precision list (autocast_mode.h).
        q, k, v = (cast(tape, value, switches.autocast) for value in (q, k, v))
    if layer.kernel == "math":
        return _math(tape, (q, k, v), switches, mask)
    if layer.kernel == "mem_efficient":
        return _mem_efficient(tape, (q, k, v), mask)
    if layer.kernel == "flash_attention_2" and switches.padded:
        return without_padding(tape, (q, k, v), _flash)
    return _flash(tape, (q, k, v))


def repeat(tape: Tape, x: Value, dims: tuple[str, ...] = ("T", "q")) -> Value:
    """`repeat_kv`: grouped keys or values copied once per query head; the gradient is summed over the group."""
    if x.dims in (dims, _LATENT):
        return x
    edge_in, each, own = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, tape.new(each, own)),)

    edge = tape.node(backward) if tape.needs(x) else None
    return Value(tape.new(each, dims), each, dims, edge)


def spread(tape: Tape, x: Value) -> Value:
    """`repeat_kv` of a single key head: a view, its stride zero; the gradient is summed over all heads."""
    if not tape.needs(x):
        return Value(x.buffer, x.each, ("T", "q"))
    edge_in, each, own = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, tape.new(each, own)),)

    return Value(x.buffer, each, ("T", "q"), tape.node(backward))


def _result(q: Value, v: Value) -> Dims:
    """Dims of the output: q's heads, v's width."""
    return v.dims if v.dims == _LATENT else q.dims


def _flash(tape: Tape, qkv: tuple[Value, Value, Value]) -> Value:
    """Saves q, k, v, the output and a float32 log-sum-exp per head and token, and two random states.

    Backward (flash_api.cpp, mha_bwd): dq accumulated in float32 over rows padded to 128 and heads padded to 32 or
    64 columns, softmax_d, and dk, dv for every query head where keys are grouped.
    """
    q, k, v = qkv
    each, dims, grouped, rows = q.each, q.dims, k.dims != q.dims, _ROWS_OF[q.dims[0]]
    inputs = tuple((value.edge, value.dims) for value in qkv)
    saved = tape.save(q, k, v) if tape.needs(q, k, v) else None
    out, lse = tape.new(each, dims), tape.new(4, (dims[0], "H"))
    states = tape.new(16, ()), tape.new(8, ())
    if saved is None:
        return Value(out, each, dims)

    def backward(_: Buffer) -> Outcome:
        work = [tape.new(4, (f"{rows} dq",), WORKSPACE), tape.new(4, (f"{rows} lse",), WORKSPACE)]
        if grouped:
            work += [tape.new(each, dims, WORKSPACE) for _ in "kv"]
        grads = tuple((edge, tape.new(each, own)) for edge, own in inputs)
        del work
        return grads

    edge = tape.node(backward, saved + tape.save(out, lse, *states))
    return Value(out, each, dims, edge)


def _mem_efficient(tape: Tape, qkv: tuple[Value, Value, Value], mask: Value | None) -> Value:
    """Saves q, k, v, the additive mask of this layer, the output, a float32 log-sum-exp and two random states.

    Backward (attention_backward.cu): delta in float32 over rows padded to 16, and in 16 bit a float32 accumulator
    of dq over 64 x 64 blocks.
    """
    q, k, v = qkv
    each, dims = q.each, _result(q, v)
    bias = _additive(tape, each) if mask else None
    inputs = tuple((value.edge, value.dims) for value in qkv)
    saved = tape.save(q, k, v, bias) if tape.needs(q, k, v) else None
    out = tape.new(each, dims)
    lse = tape.new(4, ("efficient lse",)) if saved is not None else None
    states = tape.new(8, ()), tape.new(8, ())
    if saved is None:
        return Value(out, each, dims)

    def backward(_: Buffer) -> Outcome:
        work = [tape.new(4, ("efficient delta",), WORKSPACE)]
        if each == 2:
            work.append(tape.new(4, ("efficient dq",), WORKSPACE))
        grads = tuple((edge, tape.new(each, own)) for edge, own in inputs)
        del work
        return grads

    edge = tape.node(backward, saved + tape.save(out, lse, *states))
    return Value(out, each, dims, edge)


def _additive(tape: Tape, each: int) -> Buffer:
    """A boolean mask becomes 0 and minus infinity in the kernel's dtype, once per layer (attention.cpp)."""
    dims = ("T", "s")
    bias = tape.new(each, dims, SCORES)
    inverted = tape.new(1, dims, SCORES)
    del inverted
    return bias


def _math(tape: Tape, qkv: tuple[Value, Value, Value], switches: Switches, mask: Value | None) -> Value:
    """`_scaled_dot_product_attention_math`: float32 throughout, scores and probabilities written out.

    The call returns the probabilities too, in the input's dtype; they die when the caller has taken the output.
    """
    del switches
    each, dims = qkv[0].each, _result(qkv[0], qkv[2])
    q, k, v = (cast(tape, value, 4) for value in qkv)
    with tape.cause(SCORES):
        scaled = unary(tape, q)
        bias = _causal_bias(tape) if mask is None else Value(_additive(tape, each), each, mask.dims)
        wide_k, wide_v = repeat(tape, k), repeat(tape, v)
        scores = bmm(tape, scaled, unary(tape, wide_k), _SCORES)
        scores = add(tape, scores, bias)
        weights = softmax(tape, scores)
        del scores, wide_k
        returned = cast(tape, weights, each)
        out = bmm(tape, weights, wide_v, dims)
        del weights, scaled
        out = cast(tape, out, each)
        del wide_v, bias, q, k, v
    result = clone(tape, out)
    del returned
    return result


def _causal_bias(tape: Tape) -> Value:
    """ones, tril, where: a float32 square built for every call."""
    ones = tape.new(1, ("s", "s"))
    lower = tape.new(1, ("s", "s"))
    del ones
    bias = Value(tape.new(4, ("s", "s")), 4, ("s", "s"))
    del lower
    return bias


def softmax(tape: Tape, x: Value) -> Value:
    """Saves its output; its CUDA backward holds `grad * output` beside the result (SoftMax.cu)."""
    return _softmax(tape, x, x.each)


def softmax_in_float32(tape: Tape, x: Value, float16: bool) -> Value:
    """`softmax(x, dtype=float32)`.

    CUDA reads float16 as it is and writes float32 (`half_to_float`, aten/src/ATen/native/SoftMax.cpp); bfloat16 is
    copied to float32 first.
    """
    return _softmax(tape, x if float16 else cast(tape, x, 4), 4)


def _softmax(tape: Tape, x: Value, wide: int) -> Value:
    edge_in, each, dims = x.edge, x.each, x.dims
    out = tape.new(wide, dims)
    if not tape.needs(x):
        return Value(out, wide, dims)

    def backward(_: Buffer) -> Outcome:
        work = tape.new(wide, dims, WORKSPACE)
        grad = tape.new(each, dims)
        del work
        return ((edge_in, grad),)

    return Value(out, wide, dims, tape.node(backward, tape.save(out)))


def _eager(
    tape: Tape, qkv: tuple[Value, Value, Value], layer: LayerSwitches, mask: Value | None, switches: Switches
) -> tuple[Value, Value]:
    """`eager_attention_forward`: scores in the matmul's dtype, softmax in float32, probabilities cast back.

    matmul makes sequences and heads one dimension. Of one sequence that is a view; more are copied, unless they lie
    head by head, as keys and values do that were repeated. So is the gradient of what it returns, on its way back.
    """
    one = switches.one_sequence
    apart = spread if layer.one_group and one else repeat
    q, k, v = qkv[0], apart(tape, qkv[1]), apart(tape, qkv[2])
    by_token = not one and not layer.by_head
    copied = {"q": by_token, "k": by_token and k is qkv[1], "v": not one and v is qkv[2]}
    with tape.cause(SCORES):
        weights = _product(tape, (q, k), (copied["q"], copied["k"]), _SCORES, switches.autocast)
        weights = unary(tape, weights)
        if layer.softcap:
            weights = unary(tape, unary(tape, unary(tape, weights), saves="output"))
        if mask is not None:
            weights = add(tape, weights, mask)
        weights = cast(tape, softmax_in_float32(tape, weights, switches.float16), q.each)
        if layer.dropout:
            weights = dropout(tape, weights)
        out = _product(tape, (weights, v), (False, copied["v"]), _result(q, v), switches.autocast)
        return clone(tape, out if one else relayout_gradient(tape, out)), weights


def product(tape: Tape, a: Value, b: Value, dims: Dims, autocast: int) -> Value:
    """torch.matmul of two sides that lie as bmm wants them."""
    return _product(tape, (a, b), (False, False), dims, autocast)


def _product(
    tape: Tape, sides: tuple[Value, Value], copied: tuple[bool, bool], dims: Dims, autocast: int
) -> Value:
    """torch.matmul, which is on autocast's lower precision list: float32 sides are cast first, b before a.

    `copied` says which sides do not lie as bmm wants them. The call holds what it was given until it returns.
    """
    a, b = sides
    if autocast:
        b = cast(tape, b, autocast)
        a = cast(tape, a, autocast)
    first, second = (clone(tape, side) if copies else side for side, copies in zip((a, b), copied, strict=True))
    return bmm(tape, first, second, dims)
