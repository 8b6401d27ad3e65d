"""Caches that `generate` is told to use in place of the usual one: quantized, or waiting in host memory.

Source: transformers 5.23 cache_utils.py, QuantizedLayer.update, Fp8QuantizedLayer.update, Cache.update (offloading).
"""

from dataclasses import dataclass

from planner.step.attention.cache_quantizers import Packed, Quantizer
from planner.step.attention.kv_cache import CACHED, JOINED, KeyValueCache
from planner.step.engine.graph import Graph, Value, framed

# Of the tokens that a layer's cache holds: those that are quantized; the others, with the one under way.
STORED, KEPT = "quantized", "kept as they are"
FETCHED = "key and value cache of the next layer"


@dataclass(frozen=True, slots=True)
class OtherCache:
    """How a cache is kept: keys and values as these say, or `offloaded` to the host.

    `again`: with the token under way all are quantized anew (residual_length is reached).
    """

    keys: Quantizer | None = None
    values: Quantizer | None = None
    again: bool = False

    @property
    def offloaded(self) -> bool:
        """Whether it waits on the host."""
        return self.keys is None


def cache_of(graph: Graph, how: OtherCache | None, *, decoding: bool) -> KeyValueCache:
    """The cache of one trace."""
    if how is None:
        return KeyValueCache(graph, decoding=decoding)
    if how.keys is None or how.values is None:
        return OffloadedCache(graph, decoding=decoding)
    return QuantizedCache(graph, (how.keys, how.values), decoding=decoding, again=how.again)


class QuantizedCache(KeyValueCache):
    """Attention reads the prompt as it was; each later token has all keys and values dequantized, and joined to it."""

    def __init__(self, graph: Graph, how: tuple[Quantizer, Quantizer], *, decoding: bool, again: bool) -> None:
        super().__init__(graph, decoding=decoding)
        self.how, self.again = how, again

    @property
    def lays_out(self) -> bool:
        """A prompt's keys and values are handed back as they came."""
        return self.decoding

    @framed
    def update(self, keys: Value, values: Value, *, by_head: bool = False) -> tuple[Value, Value]:
        """What comes back has the rows of all tokens in the cache. `by_head`: keys lie so, and need no copy."""
        if not self.decoding:
            for x, how, lies in zip((keys, values), self.how, (by_head, False), strict=True):
                self.kept.put(_of_prompt(self.graph, x, how, copied=not lies and how.backend != "fp8"))
            return keys, values
        if self.how[0].backend == "fp8":
            return self._appended(keys, values)
        graph = self.graph
        old = graph.hold([how.unpacked(graph, _of(STORED, x)) for x, how in zip((keys, values), self.how, strict=True)])
        joined = graph.hold([graph.new(x.each, (CACHED, *x.dims[1:]), JOINED) for x in (keys, values)])
        for x, how in zip((keys, values), self.how, strict=True):
            if self.again:  # takes the place of what stands, which is as large up to the tokens quantized now
                graph.release(how.packed(graph, _of(CACHED, x)))
            else:
                graph.release(graph.new(x.each, (KEPT, *x.dims[1:]), JOINED))
        graph.release(old)
        both = zip(joined, (keys, values), strict=True)
        made = [Value(buffer, x.each, (CACHED, *x.dims[1:])) for buffer, x in both]
        return made[0], made[1]

    @framed
    def _appended(self, keys: Value, values: Value) -> tuple[Value, Value]:
        """fp8: the new token's bytes are joined to the others, whose scale they share, and all is dequantized.

        The old ones have names until both are there.
        """
        graph = self.graph
        graph.hold([graph.new(1, (CACHED, *x.dims[1:]), JOINED) for x in (keys, values)])
        of_each = zip((keys, values), self.how, strict=True)
        made = [graph.hold(how.unpacked(graph, _of(CACHED, x))) for x, how in of_each]
        return made[0], made[1]


class OffloadedCache(KeyValueCache):
    """A layer's keys and values leave for the host as it has them; those of the next layer come meanwhile."""

    @framed
    def update(self, keys: Value, values: Value, *, by_head: bool = False) -> tuple[Value, Value]:  # noqa: ARG002  (others ask)
        """What comes back goes with the layer that reads it; one layer's cache stands, as if it were always the same.

        The next layer's is fetched first; then keys are joined, and the old ones go, then values.
        """
        graph, rows = self.graph, CACHED if self.decoding else keys.dims[0]
        fetched = [graph.new(x.each, (CACHED, *x.dims[1:]), FETCHED) for x in (keys, values)] if self.decoding else []
        made = []
        for x in (keys, values):
            made.append(graph.hold(Value(graph.new(x.each, (rows, *x.dims[1:]), JOINED), x.each, (rows, *x.dims[1:]))))
            graph.release(*fetched[:1])
            fetched = fetched[1:]
        return made[0], made[1]


@framed
def _of_prompt(graph: Graph, x: Value, how: Quantizer, *, copied: bool) -> Packed:
    """`_quantize(x.contiguous())`: keys and values lie token by token."""
    graph.hold(graph.new(x.each, x.dims) if copied else None)
    return how.packed(graph, x)


def _of(rows: str, x: Value) -> Value:
    return Value(None, x.each, (rows, *x.dims[1:]))
