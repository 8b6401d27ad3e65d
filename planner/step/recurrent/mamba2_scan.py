"""The state-space scan of Mamba 2 in chunks, as transformers writes it in plain torch, operator by operator.

Source: transformers 5.23 models/granitemoehybrid/modeling_granitemoehybrid.py, mamba2_chunk_scan, which runs unless the
package mamba-ssm is installed; models/nemotron_h has the same. All but the sides of products is float32, and each
name lives as long as that of the code.
"""

from typing import NamedTuple

from planner.step.attention.kernels import product
from planner.step.engine.cards import new_tensor
from planner.step.engine.graph import Alias, Buffer, Dims, Edge, Graph, Outcome, Value, framed
from planner.step.engine.ops import GRADIENTS, add, cast, clone, mul, parameter, relayout_gradient, shift, unary
from planner.step.engine.slice_ops import concatenate, pad, piece
from planner.step.norms import mul_rows
from planner.step.recurrent.chunked_scan import clamp, cumulative, ends, masked, to_end
from planner.step.switches import Switches

SCAN = "state-space layers: chunked scan"
ROWS = ("TC", "Hm")
PAIRS = ("TC", "Hm", "chunk")
_HIDDEN, _STATE = ("TC", "Hm", "dp"), ("TC", "Hm", "n")
_STATES, _ALL_STATES = ("chunks", "b", "Hm", "dp", "n"), ("chunks+1", "b", "Hm", "dp", "n")
_STEPS, _STEP_PAIRS = ("b", "Hm", "chunks+1"), ("b", "Hm", "chunks+1", "chunks+1")


class Inputs(NamedTuple):
    """Hidden states, step widths, and what is written into the state (`b`) and read out of it (`c`)."""

    hidden: Value
    dt: Value
    rate: Value
    b: Value
    c: Value


class _Chunked(NamedTuple):
    """The same, padded to whole chunks."""

    hidden: Value
    decay: Value
    b: Value
    c: Value


@framed
def chunk_scan(graph: Graph, inputs: Inputs, switches: Switches) -> Value:
    """`mamba2_chunk_scan(...)`, in float32."""
    with graph.cause(SCAN):
        dt = graph.hold(_steps(graph, inputs.dt, switches))
        hidden = graph.hold(cast(graph, inputs.hidden, 4))
        b, c = graph.hold(tuple(_repeated(graph, cast(graph, value, 4)) for value in (inputs.b, inputs.c)))
        skipped = _times_heads(graph, pad(graph, hidden, _HIDDEN), switches)
        hidden = graph.replace(hidden, mul_rows(graph, hidden, cast(graph, dt, 4)))
        decay = _decayed(graph, cast(graph, dt, 4), inputs.rate)
        chunked = _in_chunks(graph, [hidden, decay, b, c], switches)
        graph.release(hidden, b, c)
        return _scanned(graph, chunked, switches, skipped)


@framed
def _steps(graph: Graph, dt: Value, switches: Switches) -> Value:
    """`clamp(softplus(dt + dt_bias))`; autocast runs softplus in float32 (autocast_mode.h)."""
    dt = graph.replace(dt, _biased(graph, dt, switches))
    dt = graph.replace(dt, unary(graph, cast(graph, dt, 4) if switches.autocast else dt, saves="input"))
    return clamp(graph, dt)


@framed
def _biased(graph: Graph, dt: Value, switches: Switches) -> Value:
    if not switches.trains_base:
        return shift(graph, dt)
    edge_in, each, dims = dt.edge, dt.each, dt.dims

    def backward(grad: Buffer) -> Outcome:
        return (edge_in, grad), (Edge(leaf=True), graph.new(each, ("Hm",), GRADIENTS))

    return Value(graph.new(each, dims), each, dims, graph.node(backward))


def _repeated(graph: Graph, x: Value) -> Value:
    """`repeat_interleave`, a group for each of its heads; the gradient is summed over the heads."""
    return new_tensor(graph, x, 4, ("T", "Hm", "n"))


def _times_heads(graph: Graph, x: Value, switches: Switches) -> Value:
    """`D[..., None] * x`: a trained factor's gradient is a full product before it is summed."""
    heads = parameter(switches.residual, ("Hm",), trained=switches.trains_base)
    return _by_parameter(graph, x, heads)


def _decayed(graph: Graph, dt: Value, rate: Value) -> Value:
    """`A * dt`."""
    return _by_parameter(graph, dt, rate)


@framed
def _by_parameter(graph: Graph, x: Value, factor: Value) -> Value:
    x_edge, edge, dims, own = x.edge, factor.edge, x.dims, factor.each
    if not graph.needs(x, factor):
        return Value(graph.new(4, dims), 4, dims)

    def backward(_: Buffer) -> Outcome:
        to_x = graph.new(4, dims) if x_edge else None
        if edge is None:
            return ((x_edge, to_x),)
        full = graph.new(4, dims)
        summed = graph.new(own, ("Hm",), GRADIENTS if edge.leaf else "")
        graph.release(full)
        return (x_edge, to_x), (edge, summed)

    saved = (graph.save(x) if edge else []) + (graph.save(factor) if x_edge else [])
    return Value(graph.new(4, dims), 4, dims, graph.node(backward, saved))


@framed
def _in_chunks(graph: Graph, wide: list[Value], switches: Switches) -> _Chunked:
    """`reshape_into_chunks` of each; all that was padded goes when the last is."""
    return _Chunked(*(_whole(graph, x, switches) for x in wide))


@framed
def _whole(graph: Graph, x: Value, switches: Switches) -> Value:
    """Of several chunks, the gradients of heads' columns come back otherwise in memory."""
    whole = pad(graph, x, ("TC", *x.dims[1:]))
    return whole if whole.dims == ROWS or switches.one_chunk else relayout_gradient(graph, whole)


@framed
def _scanned(graph: Graph, x: _Chunked, switches: Switches, skipped: Value) -> Value:
    """The diagonal blocks, the state at each chunk's start, and what is read out of it.

    Operands of einsum that lie token by token are copied for it, unless all is one chunk of one sequence. Hidden states
    lie column by column, as the convolution leaves them, and states chunk by chunk: copied where there are several.
    """
    autocast, chunks = switches.autocast, not switches.one_chunk
    apart = chunks or not switches.one_sequence
    total = graph.hold(cumulative(graph, x.decay))
    within = graph.hold(unary(graph, _segment_sums(graph, x.decay, PAIRS, ("chunk", "chunk")), saves="output"))
    scores = graph.hold(_contracted(graph, (x.c, x.b), PAIRS, autocast, (apart, apart)))
    weights = graph.hold(mul(graph, scores, within))
    own = graph.hold(_contracted(graph, (weights, x.hidden), _HIDDEN, autocast, (False, chunks)))
    own = relayout_gradient(graph, own) if apart else own
    leaving = graph.hold(unary(graph, to_end(graph, total), saves="output"))
    written = graph.hold(mul_rows(graph, x.b, leaving))
    states = _contracted(graph, (x.hidden, written), _STATES, autocast, (chunks, apart))
    states = relayout_gradient(graph, states) if chunks else states
    # What `_started` names stays to the end of the scan.
    started, *_ = graph.hold(_started(graph, graph.move(states), total, switches))
    reaching = graph.hold(unary(graph, total, saves="output"))
    own_start = piece(graph, started, _STATES)
    read = graph.hold(_contracted(graph, (x.c, own_start), _HIDDEN, autocast, (apart, chunks)))
    read = relayout_gradient(graph, read) if apart else read
    decayed = graph.hold(mul_rows(graph, read, reaching))
    out = clone(graph, add(graph, own, decayed))
    out = add(graph, out, skipped)
    if switches.filled_up:
        out = piece(graph, out, ("T", "Hm", "dp"))
    return out


@framed
def _started(graph: Graph, states: Value, total: Value, switches: Switches) -> tuple[Value, Value, Value]:
    """The state at the start of every chunk and at the end, from what the chunks write; and what else
    keeps its name to the end of the scan.
    """
    many = not switches.one_sequence
    before = graph.hold(Value(graph.new(states.each, states.dims[1:]), states.each, states.dims[1:]))
    states = graph.replace(states, concatenate(graph, (states, before), _ALL_STATES))
    padded = graph.hold(pad(graph, ends(graph, total), _STEPS))
    decays = graph.hold(
        unary(graph, _segment_sums(graph, padded, _STEP_PAIRS, ("chunks+1", "chunks+1")), saves="output")
    )
    graph.release(padded)
    started = _contracted(graph, (decays, states), _ALL_STATES, switches.autocast, (False, many))
    return relayout_gradient(graph, started) if many else started, before, decays


@framed
def _segment_sums(graph: Graph, x: Value, pairs: Dims, square: Dims) -> Value:
    """`segment_sum`: a row's numbers spread over all pairs, masked, summed up, masked again."""
    lower = graph.hold(_lower_triangle(graph, square))
    spread = graph.hold(masked(graph, _spread(graph, x, pairs), graph.new(1, square)))
    sums = cumulative(graph, spread)
    lower = graph.replace(lower, _lower_triangle(graph, square))
    return masked(graph, sums, graph.new(1, square))


@framed
def _lower_triangle(graph: Graph, square: Dims) -> Buffer:
    ones = graph.new(1, square)
    lower = graph.new(1, square)
    graph.release(ones)
    return lower


@framed
def _spread(graph: Graph, x: Value, pairs: Dims) -> Value:
    """`x[..., None].expand(...)`, a view; the gradient is summed and seen through another."""
    edge_in, rows = x.edge, x.dims
    edge = graph.node(lambda _: ((edge_in, Alias(graph.new(4, rows))),)) if graph.needs(x) else None
    return Value(x.buffer, 4, pairs, edge)


@framed
def _seen(graph: Graph, x: Value) -> Value:
    """`permute`, forward and backward a view."""
    edge_in = x.edge
    edge = graph.node(lambda grad: ((edge_in, Alias(grad)),)) if graph.needs(x) else None
    return Value(x.buffer, x.each, x.dims, edge)


@framed
def _contracted(
    graph: Graph, sides: tuple[Value, Value], dims: Dims, autocast: int, copied: tuple[bool, bool] = (False, False)
) -> Value:
    """`einsum` of two operands; it keeps both by name (aten/src/ATen/native/Linear.cpp, sumproduct_pair).

    Autocast casts them first, as torch 2.14's own record shows; then the dimensions of each are put in order, and
    `copied` says which of the two that takes a copy of.
    """
    a, b = sides
    if autocast:
        a, b = graph.replace((a, b), (cast(graph, a, autocast), cast(graph, b, autocast)))
    first, second = _seen(graph, a), _seen(graph, b)
    if copied[0]:
        first = clone(graph, first)
    if copied[1]:
        second = clone(graph, second)
    return product(graph, first, second, dims, 0)
