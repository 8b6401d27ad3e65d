"""The scan of the gated delta rule: a state goes from chunk to chunk, and every chunk reads and updates it.

Each chunk saves as much as any other. The last two are traced operator by operator, for there the backward pass stands
highest; all earlier ones are one node that holds what they saved.
"""

from collections.abc import Iterator
from typing import NamedTuple

from planner.step.attention.kernels import product
from planner.step.attention.rotary_pairs import subtract
from planner.step.engine.graph import Buffer, Dims, Edge, Graph, Outcome, Value, framed
from planner.step.engine.ops import add
from planner.step.engine.slice_ops import piece
from planner.step.norms import mul_rows

_STATE = ("b", "Hv", "dk", "dv")
_K, _V, _PAIRS = ("C", "Hv", "dk"), ("C", "Hv", "dv"), ("C", "Hv", "chunk")


class Scanned(NamedTuple):
    """What every chunk reads its part of."""

    q: Value
    k: Value
    values: Value
    keys: Value
    within: Value
    decays: Value


@framed
def scan(graph: Graph, x: Scanned, state: Value, out: Value, autocast: int) -> Value:
    """`core_attn_out` after all chunks, written in place."""
    state, out = _earlier(graph, x, state, out, autocast)
    last_but_one = _Chunk(graph, x, ("second chunk",), ("third chunk",), autocast)
    values = graph.hold(last_but_one.values(state))
    read = graph.hold(last_but_one.read(state))
    out = _write(graph, out, last_but_one.attended(read, values), last_but_one.times)
    state = graph.replace(state, last_but_one.updated(state, values))
    last = _Chunk(graph, x, (), (), autocast)
    values = graph.replace(values, last.values(state))
    read = graph.replace(read, last.read(state))
    out = _write(graph, out, last.attended(read, values), ())
    before = len(graph.nodes)
    graph.release(last.updated(state, values))
    graph.forget(slice(before, None))
    return out


class _Chunk(NamedTuple):
    """One chunk; `times` is a dimension of one, or of none where the sequence has no such chunk.

    `sides`: the same for what is multiplied with the state, which the first chunk's zeros leave unsaved.
    """

    graph: Graph
    x: Scanned
    times: Dims
    sides: Dims
    autocast: int

    @framed
    def values(self, state: Value) -> Value:
        """`new_values[i] - k_cumdecay[i] @ state`."""
        own = self._part(self.x.values, _V)
        return subtract(self.graph, own, self._product(self._side(self.x.keys), state, _V))

    @framed
    def read(self, state: Value) -> Value:
        """`query[i] @ state`."""
        return self._product(self._side(self.x.q), state, _V)

    @framed
    def attended(self, read: Value, values: Value) -> Value:
        """`read + intra_chunk_attn[i] @ values`."""
        return add(self.graph, read, self._product(self._part(self.x.within, _PAIRS), values, _V))

    @framed
    def updated(self, state: Value, values: Value) -> Value:
        """`state * decay[i] + key[i].T @ values`."""
        decayed = mul_rows(self.graph, state, self._part(self.x.decays, ("b", "Hv")))
        return add(self.graph, decayed, self._product(self._part(self.x.k, _K), values, _STATE))

    @framed
    def _part(self, x: Value, dims: Dims) -> Value:
        return piece(self.graph, x, (*self.times, *dims))

    @framed
    def _side(self, x: Value) -> Value:
        return piece(self.graph, x, (*self.sides, *_K))

    @framed
    def _product(self, a: Value, b: Value, dims: Dims) -> Value:
        return product(self.graph, a, b, (*self.times, *dims), self.autocast)


@framed
def _write(graph: Graph, out: Value, x: Value, times: Dims) -> Value:
    """`out[:, :, i] = x` (CopySlices): its backward copies the whole gradient, and the part of it twice."""
    if not graph.needs(x):
        return out
    edges, each, dims, part = (out.edge, x.edge), x.each, out.dims, (*times, *_V)

    def backward(_: Buffer) -> Outcome:
        whole = graph.new(4, dims)
        copied = graph.hold(graph.new(4, part))
        blank = graph.new(4, part)
        own = copied if each == 4 else graph.new(each, part)
        graph.release(blank)
        return (edges[0], whole), (edges[1], own)

    return Value(out.buffer, 4, dims, graph.node(backward))


@framed
def _earlier(graph: Graph, x: Scanned, state: Value, out: Value, autocast: int) -> tuple[Value, Value]:
    """All chunks but the last two."""
    if not graph.needs(*x):
        return state, out
    saved = [None if graph.defers else graph.new(each, dims) for each, dims in _saved(autocast, x)]
    later = Edge()

    def backward(_: Buffer) -> Outcome:
        later.drop()
        return ()

    edge = graph.node(backward, graph.save(*saved))
    return state._replace(edge=later), out._replace(edge=edge)


def _saved(autocast: int, x: Scanned) -> Iterator[tuple[int, Dims]]:
    """The state and the values before each chunk, and under autocast copies of both sides of its four products.

    The first chunk's state is zero and needs no gradient: what it is multiplied with is not saved. Where copies are
    multiplied, the state itself is saved for the decay's gradient alone.
    """
    if x.decays.edge or not autocast:
        yield 4, ("earlier chunks", *_STATE)
    if not autocast:
        yield 4, ("earlier chunks", *_V)
        return
    for dims in (_STATE, _STATE, _K, _V, _V, _PAIRS):
        yield autocast, ("earlier chunks", *dims)
    for dims in (_K, _K):
        yield autocast, ("earlier chunks but one", *dims)
