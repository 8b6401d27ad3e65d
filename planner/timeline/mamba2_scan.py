"""The state-space scan of Mamba 2 in chunks, as transformers writes it in plain torch, operator by operator.

Source: transformers 5.23 models/granitemoehybrid/modeling_granitemoehybrid.py, mamba2_chunk_scan, which runs unless the
package mamba-ssm is installed; models/nemotron_h has the same. All but the sides of products is float32, and each
name lives as long as that of the code.
"""

from typing import NamedTuple

from planner.timeline.attend import product
from planner.timeline.chunks import cumulative, ends, masked, to_end
from planner.timeline.norms import mul_rows
from planner.timeline.ops import GRADIENTS, add, cast, clone, mul, parameter, relayout_gradient, shift, unary
from planner.timeline.pieces import concatenate, pad, piece
from planner.timeline.switches import Switches
from planner.timeline.tape import Alias, Buffer, Dims, Edge, Outcome, Tape, Value

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


def chunk_scan(tape: Tape, inputs: Inputs, switches: Switches) -> Value:
    """`mamba2_chunk_scan(...)`, in float32."""
    with tape.cause(SCAN):
        dt = _steps(tape, inputs.dt, switches)
        hidden = cast(tape, inputs.hidden, 4)
        b, c = (_repeated(tape, cast(tape, value, 4)) for value in (inputs.b, inputs.c))
        skipped = _times_heads(tape, pad(tape, hidden, _HIDDEN), switches)
        hidden = mul_rows(tape, hidden, cast(tape, dt, 4))
        decay = _decayed(tape, cast(tape, dt, 4), inputs.rate)
        chunked = _in_chunks(tape, [hidden, decay, b, c], switches)
        del hidden, decay, b, c
        out = _scanned(tape, chunked, switches, skipped)
        del dt, skipped, chunked
        return out


def _steps(tape: Tape, dt: Value, switches: Switches) -> Value:
    """`clamp(softplus(dt + dt_bias))`; autocast runs softplus in float32 (autocast_mode.h)."""
    dt = _biased(tape, dt, switches)
    dt = unary(tape, cast(tape, dt, 4) if switches.autocast else dt, saves="input")
    edge_in, each, dims = dt.edge, dt.each, dt.dims

    def backward(_: Buffer) -> Outcome:
        within = tape.new(1, dims), tape.new(1, dims)
        out = tape.new(each, dims)
        del within
        return ((edge_in, out),)

    edge = tape.node(backward, tape.save(dt)) if tape.needs(dt) else None
    return Value(tape.new(each, dims), each, dims, edge)


def _biased(tape: Tape, dt: Value, switches: Switches) -> Value:
    if not switches.trains_base:
        return shift(tape, dt)
    edge_in, each, dims = dt.edge, dt.each, dt.dims

    def backward(grad: Buffer) -> Outcome:
        return (edge_in, grad), (Edge(leaf=True), tape.new(each, ("Hm",), GRADIENTS))

    return Value(tape.new(each, dims), each, dims, tape.node(backward))


def _repeated(tape: Tape, x: Value) -> Value:
    """`repeat_interleave`, a group for each of its heads; the gradient is summed over the heads."""
    edge_in, own = x.edge, x.dims
    edge = tape.node(lambda _: ((edge_in, tape.new(4, own)),)) if tape.needs(x) else None
    return Value(tape.new(4, ("T", "Hm", "n")), 4, ("T", "Hm", "n"), edge)


def _times_heads(tape: Tape, x: Value, switches: Switches) -> Value:
    """`D[..., None] * x`: a trained factor's gradient is a full product before it is summed."""
    heads = parameter(switches.residual, ("Hm",), trained=switches.trains_base)
    return _by_parameter(tape, x, heads)


def _decayed(tape: Tape, dt: Value, rate: Value) -> Value:
    """`A * dt`."""
    return _by_parameter(tape, dt, rate)


def _by_parameter(tape: Tape, x: Value, factor: Value) -> Value:
    x_edge, edge, dims, own = x.edge, factor.edge, x.dims, factor.each
    if not tape.needs(x, factor):
        return Value(tape.new(4, dims), 4, dims)

    def backward(_: Buffer) -> Outcome:
        to_x = tape.new(4, dims) if x_edge else None
        if edge is None:
            return ((x_edge, to_x),)
        full = tape.new(4, dims)
        summed = tape.new(own, ("Hm",), GRADIENTS if edge.leaf else "")
        del full
        return (x_edge, to_x), (edge, summed)

    saved = (tape.save(x) if edge else []) + (tape.save(factor) if x_edge else [])
    return Value(tape.new(4, dims), 4, dims, tape.node(backward, saved))


def _in_chunks(tape: Tape, wide: list[Value], switches: Switches) -> _Chunked:
    """`reshape_into_chunks` of each; all that was padded goes when the last is."""
    return _Chunked(*(_whole(tape, x, switches) for x in wide))


def _whole(tape: Tape, x: Value, switches: Switches) -> Value:
    """Of several chunks, the gradients of heads' columns come back otherwise in memory."""
    whole = pad(tape, x, ("TC", *x.dims[1:]))
    return whole if whole.dims == ROWS or switches.one_chunk else relayout_gradient(tape, whole)


def _scanned(tape: Tape, x: _Chunked, switches: Switches, skipped: Value) -> Value:
    """The diagonal blocks, the state at each chunk's start, and what is read out of it.

    Operands of einsum that lie token by token are copied for it, unless all is one chunk of one sequence. Hidden states
    lie column by column, as the convolution leaves them, and states chunk by chunk: copied where there are several.
    """
    autocast, chunks = switches.autocast, not switches.one_chunk
    apart = chunks or not switches.one_sequence
    total = cumulative(tape, x.decay)
    within = unary(tape, _segment_sums(tape, x.decay, PAIRS, ("chunk", "chunk")), saves="output")
    scores = _contracted(tape, _side(tape, x.c, apart), _side(tape, x.b, apart), PAIRS, autocast)
    weights = mul(tape, scores, within)
    own = _contracted(tape, _side(tape, weights, False), _side(tape, x.hidden, chunks), _HIDDEN, autocast)
    own = relayout_gradient(tape, own) if apart else own
    leaving = unary(tape, to_end(tape, total), saves="output")
    written = mul_rows(tape, x.b, leaving)
    states = _contracted(tape, _side(tape, x.hidden, chunks), _side(tape, written, apart), _STATES, autocast)
    held = [relayout_gradient(tape, states) if chunks else states]
    del states
    started = _started(tape, held, total, switches)
    reaching = unary(tape, total, saves="output")
    own_start = _side(tape, piece(tape, started, _STATES), chunks)
    read = _contracted(tape, _side(tape, x.c, apart), own_start, _HIDDEN, autocast)
    del own_start
    read = relayout_gradient(tape, read) if apart else read
    decayed = mul_rows(tape, read, reaching)
    out = clone(tape, add(tape, own, decayed))
    out = add(tape, out, skipped)
    if switches.filled_up:
        out = piece(tape, out, ("T", "Hm", "dp"))
    del total, within, scores, weights, own, leaving, written, started, held, reaching, read, decayed
    return out


def _started(tape: Tape, held: list[Value], total: Value, switches: Switches) -> Value:
    """The state at the start of every chunk and at the end, from what the chunks write, which is taken from `held`.

    What keeps its name to the end of the scan goes there instead.
    """
    many, states = not switches.one_sequence, held.pop()
    before = Value(tape.new(states.each, states.dims[1:]), states.each, states.dims[1:])
    states = concatenate(tape, (states, before), _ALL_STATES)
    padded = pad(tape, ends(tape, total), _STEPS)
    decays = unary(tape, _segment_sums(tape, padded, _STEP_PAIRS, ("chunks+1", "chunks+1")), saves="output")
    del padded
    held += [before, decays]
    started = _contracted(
        tape, _side(tape, decays, False), _side(tape, states, many), _ALL_STATES, switches.autocast
    )
    return relayout_gradient(tape, started) if many else started


def _segment_sums(tape: Tape, x: Value, pairs: Dims, square: Dims) -> Value:
    """`segment_sum`: a row's numbers spread over all pairs, masked, summed up, masked again."""
    lower = _lower_triangle(tape, square)
    spread = masked(tape, _spread(tape, x, pairs), tape.new(1, square))
    sums = cumulative(tape, spread)
    lower = _lower_triangle(tape, square)
    out = masked(tape, sums, tape.new(1, square))
    del sums, spread, lower
    return out


def _lower_triangle(tape: Tape, square: Dims) -> Buffer:
    ones = tape.new(1, square)
    lower = tape.new(1, square)
    del ones
    return lower


def _spread(tape: Tape, x: Value, pairs: Dims) -> Value:
    """`x[..., None].expand(...)`, a view; the gradient is summed and seen through another."""
    edge_in, rows = x.edge, x.dims
    edge = tape.node(lambda _: ((edge_in, Alias(tape.new(4, rows))),)) if tape.needs(x) else None
    return Value(x.buffer, 4, pairs, edge)


def _seen(tape: Tape, x: Value) -> Value:
    """`permute`, forward and backward a view."""
    edge_in = x.edge
    edge = tape.node(lambda grad: ((edge_in, Alias(grad)),)) if tape.needs(x) else None
    return Value(x.buffer, x.each, x.dims, edge)


def _side(tape: Tape, x: Value, copied: bool) -> Value:
    """An operand of einsum: its dimensions put in order, and copied where that needs it."""
    turned = _seen(tape, x)
    return clone(tape, turned) if copied else turned


def _contracted(tape: Tape, a: Value, b: Value, dims: Dims, autocast: int) -> Value:
    """`einsum` of two operands in order; it keeps both by name (aten/src/ATen/native/Linear.cpp, sumproduct_pair)."""
    out = product(tape, a, b, dims, autocast)
    del a, b
    return out
