"""The attention kernels: what each allocates, saves and takes while it runs backward.

`s` is the length of a sequence, so that ("T", "H", "s") counts every score of every head.
"""

from typing import NamedTuple

from planner.step.attention.cudnn import cudnn
from planner.step.attention.flash_unpadded import without_padding
from planner.step.attention.kv_cache import CACHED
from planner.step.attention.ring import ring, ulysses
from planner.step.attention.softmax import WORKSPACE, safe_softmax, softmax_in_float32
from planner.step.engine.cards import new_tensor, view_of
from planner.step.engine.graph import Buffer, Dims, Graph, Outcome, Value, framed
from planner.step.engine.ops import add, bmm, cast, clone, dropout, relayout_gradient, unary
from planner.step.switches import LayerSwitches, Switches

_SIXTEEN_BITS = 2
SCORES = "attention scores"
_SCORES = ("T", "H", "s")
_ROWS = ("T", "H")
# Values of latent attention, narrower than its keys and never grouped.
_LATENT = ("T", "v")
# The flash backward's padded rows: sequence by sequence, or all of a row of tokens.
_ROWS_OF = {"T": "flash", "kept": "flash row"}


class MemoryLayout(NamedTuple):
    """How queries and keys lie in memory: one sequence, or head by head, needs no copy for a matrix product."""

    one_sequence: bool
    by_head: bool = False


@framed
def attend(
    graph: Graph, qkv: tuple[Value, Value, Value], switches: Switches, layer: LayerSwitches, mask: Value | None
) -> tuple[Value, tuple[Value, ...]]:
    """Run this layer's kernel; the result has the dims of q's heads and v's width. Eager returns its scores too."""
    if layer.kernel == "eager":
        out, weights = _eager(graph, qkv, layer, mask, switches)
        return out, (weights,)
    return _fused(graph, qkv, switches, layer, mask), ()


@framed
def _fused(
    graph: Graph, qkv: tuple[Value, Value, Value], switches: Switches, layer: LayerSwitches, mask: Value | None
) -> Value:
    """`scaled_dot_product_attention` with the kernel that torch picks."""
    q, k, v = qkv
    if layer.expands:
        k, v = graph.replace(
            (k, v), tuple(spread(graph, value) if layer.one_group else repeat(graph, value) for value in (k, v))
        )
    # scaled_dot_product_attention is on autocast's lower precision list (autocast_mode.h). The caller keeps a name for
    # what was cast until the kernel returns.
    inner = (_lowered(graph, q, switches), _lowered(graph, k, switches), _lowered(graph, v, switches))
    if switches.sequence_by == "ring":
        # Merged by halves on the first card, it lies head by head, and is written token by token (sdpa_attention.py).
        return clone(graph, ring(graph, inner, parts=switches.sequence_parts, gathers=switches.gathers_parts))
    if switches.sequence_by == "ulysses":
        return ulysses(graph, inner, lambda given: _by_kernel(graph, given, switches, layer, mask))
    return _by_kernel(graph, inner, switches, layer, mask)


@framed
def _by_kernel(
    graph: Graph, inner: tuple[Value, Value, Value], switches: Switches, layer: LayerSwitches, mask: Value | None
) -> Value:
    if layer.kernel == "math":
        layout = MemoryLayout(one_sequence=switches.one_sequence, by_head=layer.by_head)
        return math(graph, inner, mask, layout, drops=layer.dropout)
    if layer.kernel == "cudnn":
        bias = _additive(graph, inner[0].each) if mask else None
        return cudnn(graph, inner, bias, _result(inner[0], inner[2]), WORKSPACE)
    if layer.kernel == "mem_efficient":
        return mem_efficient(graph, inner, mask, wide=layer.wide_values, pads_mask=layer.pads_mask)
    if layer.kernel == "flash_attention_2" and switches.padded:
        return without_padding(graph, inner, flash)
    if layer.kernel == "flash_attention_2" and switches.packed:
        return flash(graph, inner, in_one_row=True)
    return flash(graph, inner, splits_keys=layer.splits_keys)


def _lowered(graph: Graph, x: Value, switches: Switches) -> Value:
    return cast(graph, x, switches.autocast) if switches.autocast else x


def repeat(graph: Graph, x: Value, dims: tuple[str, ...] = ("T", "q")) -> Value:
    """`repeat_kv`: grouped keys or values copied once per query head; the gradient is summed over the group."""
    if x.dims in (dims, _LATENT):
        return x
    if x.dims[0] == CACHED:
        return Value(graph.new(x.each, (CACHED, *dims[1:])), x.each, dims)
    return new_tensor(graph, x, x.each, dims)


def spread(graph: Graph, x: Value) -> Value:
    """`repeat_kv` of a single key head: a view, its stride zero; the gradient is summed over all heads."""
    return view_of(graph, x, ("T", "q"))


def _result(q: Value, v: Value) -> Dims:
    """Dims of the output: q's heads, v's width."""
    return v.dims if v.dims == _LATENT else q.dims


@framed
def flash(
    graph: Graph, qkv: tuple[Value, Value, Value], *, splits_keys: bool = False, in_one_row: bool = False
) -> Value:
    """Saves q, k, v, the output and a float32 log-sum-exp per head and token, and two random states.

    Where there are few queries, each part of the keys has an output and a log-sum-exp of its own in float32 until they
    are joined (flash_api.cpp, set_params_splitkv).

    Backward (flash_api.cpp, mha_bwd): after dq, dk and dv softmax_d, dq accumulated in float32 over rows padded to 128
    and heads padded to 32 or 64 columns, and dk, dv for every query head where keys are grouped. `in_one_row`:
    documents lie one after another, each with rows of its own there (mha_varlen_bwd).
    """
    q, k, v = qkv
    each, dims, grouped, rows = q.each, q.dims, k.dims != q.dims, "flash row" if in_one_row else _ROWS_OF[q.dims[0]]
    inputs = tuple((value.edge, value.dims) for value in qkv)
    saved = graph.save(q, k, v) if graph.needs(q, k, v) else None
    out, lse = graph.hold((graph.new(each, dims), graph.new(4, (dims[0], "H"))))
    parts = [graph.new(4, (dims[0], "H", count), WORKSPACE) for count in ("splits", "splits of d") if splits_keys]
    states = graph.hold((graph.new(16, ()), graph.new(8, ())))
    graph.release(parts)
    if saved is None:
        return Value(out, each, dims)

    def backward(_: Buffer) -> Outcome:
        grads = tuple((edge, graph.new(each, own)) for edge, own in inputs)
        work = [graph.new(4, (f"{rows} lse",), WORKSPACE), graph.new(4, (f"{rows} dq",), WORKSPACE)]
        if grouped:
            work += [graph.new(each, dims, WORKSPACE) for _ in "kv"]
        graph.release(work)
        return grads

    edge = graph.node(backward, saved + graph.save(out, lse, *states))
    return Value(out, each, dims, edge)


@framed
def mem_efficient(
    graph: Graph, qkv: tuple[Value, Value, Value], mask: Value | None, *, wide: bool, pads_mask: bool = False
) -> Value:
    """Saves q, k, v, the additive mask of this layer, the output, a float32 log-sum-exp and two random states.

    `wide`: the output is summed up in float32, in memory (mem_eff_attention/kernel_forward.h,
    kNeedsOutputAccumulatorBuffer). `pads_mask`: the mask's rows are copied into rows of whole 8 (aten/src/ATen/
    native/transformers/attention.cpp, preprocess_mask and pad_bias).

    Backward (attention_backward.cu; mem_eff_attention/kernel_backward.h): delta, a number per head and row, and an
    accumulator of dq in blocks. In float32 the kernel makes no delta (kKernelComputesDelta): it is a product of the
    gradient and the output, summed up, and a copy of that.
    """
    q, k, v = qkv
    each, dims = q.each, _result(q, v)
    bias = graph.hold(_additive(graph, each) if mask else None)
    if pads_mask:
        bias = graph.replace(bias, graph.new(each, ("T", "s padded"), SCORES))
    inputs = tuple((value.edge, value.dims) for value in qkv)
    saved = graph.save(q, k, v, bias) if graph.needs(q, k, v) else None
    states = graph.hold((graph.new(8, ()), graph.new(8, ())))
    out = graph.hold(graph.new(each, dims))
    lse = graph.new(4, ("efficient lse",)) if saved is not None else None
    if wide and each == _SIXTEEN_BITS:
        accumulated = graph.new(4, dims, WORKSPACE)
        graph.release(accumulated)
    if saved is None:
        return Value(out, each, dims)

    query_dims, wide_inputs = q.dims, each != _SIXTEEN_BITS
    grouped = k.dims not in {query_dims, _LATENT} and v.dims != _LATENT

    def backward(_: Buffer) -> Outcome:
        grads = tuple((edge, graph.new(each, own)) for edge, own in inputs)
        # Of grouped keys and values the gradients are made for every query head, then summed up.
        spread_out = [graph.new(each, query_dims, WORKSPACE) for _ in "kv"] if grouped else []
        summed = [graph.new(4, dims, WORKSPACE), graph.new(4, _ROWS, WORKSPACE)] if wide_inputs else []
        delta = graph.new(4, _ROWS, WORKSPACE)
        graph.release(summed)
        work = graph.new(4, ("efficient float32 work" if wide_inputs else "efficient work",), WORKSPACE)
        graph.release(delta, work, spread_out)
        return grads

    edge = graph.node(backward, saved + graph.save(out, lse, *states))
    return Value(out, each, dims, edge)


@framed
def _additive(graph: Graph, each: int) -> Buffer:
    """A boolean mask becomes 0 and minus infinity in the kernel's dtype, once per layer (attention.cpp)."""
    numbers = [graph.new(each, (), SCORES) for _ in ("zero", "minus infinity")]
    bias = graph.new(each, ("T", "s"), SCORES)
    graph.release(numbers)
    return bias


@framed
def math(
    graph: Graph, qkv: tuple[Value, Value, Value], mask: Value | None, layout: MemoryLayout, *, drops: bool = False
) -> Value:
    """`_scaled_dot_product_attention_math`: float32 throughout, scores and probabilities written out.

    `drops`: some probabilities are set to zero, in a copy.

    matmul makes sequences and heads one dimension: of several sequences what does not lie head by head is copied, and
    so is the gradient of what it returns.
    The call returns the probabilities too, in the input's dtype; they go when the caller has taken the output.
    """
    each, dims = qkv[0].each, _result(qkv[0], qkv[2])
    q, k, v = graph.hold(tuple(cast(graph, value, 4) for value in qkv))
    with graph.cause(SCORES):
        scaled = graph.hold(unary(graph, q))
        bias = _causal_bias(graph) if mask is None else Value(_additive(graph, each), each, mask.dims)
        wide_k, wide_v = graph.hold((repeat(graph, k), repeat(graph, v)))
        as_wanted = layout.one_sequence or layout.by_head
        copied = (not as_wanted, not as_wanted and wide_k.dims == k.dims)
        # The bias is added in place.
        scores = graph.hold(_product(graph, (scaled, unary(graph, wide_k)), copied, _SCORES, 0))
        weights = graph.hold(safe_softmax(graph, scores))
        graph.release(scores)
        if drops:
            weights = graph.replace(weights, dropout(graph, weights))
        returned = graph.hold(cast(graph, weights, each))
        copied = (False, not layout.one_sequence and wide_v.dims == v.dims)
        out = _product(graph, (weights, wide_v), copied, dims, 0)
        out = cast(graph, out if layout.one_sequence else relayout_gradient(graph, out), each)
        graph.release(weights, scaled, wide_k, wide_v, bias, q, k, v)
    graph.hold(out)
    graph.release(returned)
    return clone(graph, out)


@framed
def _causal_bias(graph: Graph) -> Value:
    """ones, tril, where: a float32 square built for every call."""
    ones = graph.new(1, ("s", "s"))
    lower = graph.new(1, ("s", "s"))
    graph.release(ones)
    numbers = [graph.new(4, ()) for _ in ("zero", "minus infinity")]
    bias = Value(graph.new(4, ("s", "s")), 4, ("s", "s"))
    graph.release(numbers, lower)
    return bias


@framed
def _eager(
    graph: Graph, qkv: tuple[Value, Value, Value], layer: LayerSwitches, mask: Value | None, switches: Switches
) -> tuple[Value, Value]:
    """`eager_attention_forward`: scores in the matmul's dtype, softmax in float32, probabilities cast back.

    matmul makes sequences and heads one dimension. Of one sequence that is a view; more are copied, unless they lie
    head by head, as keys and values do that were repeated. So is the gradient of what it returns, on its way back.
    """
    one = switches.one_sequence
    apart = spread if layer.one_group and one else repeat
    q, k, v = graph.hold((qkv[0], apart(graph, qkv[1]), apart(graph, qkv[2])))
    by_token = not one and not layer.by_head
    copied = {"q": by_token, "k": by_token and k is qkv[1], "v": not one and v is qkv[2]}
    with graph.cause(SCORES):
        weights = graph.hold(_product(graph, (q, k), (copied["q"], copied["k"]), _SCORES, switches.autocast))
        weights = graph.replace(weights, unary(graph, weights))
        if layer.softcap:
            weights = graph.replace(weights, unary(graph, unary(graph, unary(graph, weights), saves="output")))
        if mask is not None:
            weights = graph.replace(weights, add(graph, weights, mask))
        weights = graph.replace(weights, cast(graph, softmax_in_float32(graph, weights, switches.float16), q.each))
        if layer.dropout:
            weights = graph.replace(weights, dropout(graph, weights))
        out = graph.hold(_product(graph, (weights, v), (False, copied["v"]), _result(q, v), switches.autocast))
        return clone(graph, out if one else relayout_gradient(graph, out)), weights


@framed
def product(graph: Graph, a: Value, b: Value, dims: Dims, autocast: int) -> Value:
    """torch.matmul of two sides that lie as bmm wants them."""
    return _product(graph, (a, b), (False, False), dims, autocast)


@framed
def _product(graph: Graph, sides: tuple[Value, Value], copied: tuple[bool, bool], dims: Dims, autocast: int) -> Value:
    """torch.matmul, which is on autocast's lower precision list: float32 sides are cast first, b before a.

    `copied` says which sides do not lie as bmm wants them. The call holds what it was given until it returns.
    """
    a, b = graph.hold(sides)
    if autocast:
        b = graph.replace(b, cast(graph, b, autocast))
        a = graph.replace(a, cast(graph, a, autocast))
    first, second = graph.hold(
        tuple(clone(graph, side) if copies else side for side, copies in zip((a, b), copied, strict=True))
    )
    return bmm(graph, first, second, dims)
