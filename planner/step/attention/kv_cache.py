"""The cache that `generate` fills: a prompt's keys and values are copied into it, each later token's joined to them.

Source: transformers 5.23 cache_utils.py, DynamicLayer.update: `torch.cat` makes the whole of it new, keys first, while
the old is there. A sliding layer keeps a view of the whole prompt's until the first token after it
(DynamicSlidingWindowLayer.update).
"""

from planner.step.engine.graph import Dims, Graph, Shelf, Value, framed

CACHE = "key and value cache"
JOINED = "key and value cache, joined anew"
# All tokens that a layer's cache holds, of every sequence.
CACHED = "cached"


class KeyValueCache:
    """What layers keep while a prompt is read; with `decoding`, what one more token makes beside what stands."""

    def __init__(self, graph: Graph, *, decoding: bool) -> None:
        self.graph, self.decoding = graph, decoding
        self.kept = Shelf()

    @property
    def lays_out(self) -> bool:
        """Whether what comes back of `update` is a tensor of its own, which lies head by head."""
        return True

    @framed
    def update(self, keys: Value, values: Value, *, by_head: bool = False) -> tuple[Value, Value]:  # noqa: ARG002  (others ask)
        """`past_key_values.update(keys, values)`. What comes back has the rows of all tokens in the cache.

        `by_head`: keys lie head by head, which other caches ask (other_caches.py).
        """
        if self.decoding:
            return self._joined(keys), self._joined(values)
        both = self.kept.put(tuple(self.graph.new(value.each, value.dims, CACHE) for value in (keys, values)))
        return keys._replace(buffer=both[0]), values._replace(buffer=both[1])

    def keep(self, each: int, dims: Dims) -> None:
        """What stays beside keys and values: the indexer's keys (DynamicIndexedLayer.update_indexer)."""
        if not self.decoding:
            self.kept.put(self.graph.new(each, dims, CACHE))

    def keep_states(self, each: int, state: Dims) -> None:
        """What a layer without keys hands on: its state in float32, and the last inputs of its short convolution.

        Source: cache_utils.py, LinearAttentionLayer; later tokens are copied into both.
        """
        if not self.decoding:
            new = self.graph.new
            states = [new(4, state, CACHE)] if state else []
            self.kept.put([*states, new(each, ("b", "conv", "conv kernel"), CACHE)])

    @framed
    def _joined(self, value: Value) -> Value:
        """The new tensor beside the old one, which goes at once; what stays is counted as standing."""
        dims: Dims = (CACHED, *value.dims[1:])
        self.graph.release(self.graph.new(value.each, dims, JOINED))
        return Value(None, value.each, dims)
