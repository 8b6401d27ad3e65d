"""The cache that `generate` fills: a prompt's keys and values are copied into it, each later token's joined to them.

Source: transformers 5.23 cache_utils.py, DynamicLayer.update: `torch.cat` makes the whole of it new, keys first, while
the old is there. A sliding layer keeps a view of the whole prompt's until the first token after it
(DynamicSlidingWindowLayer.update).
"""

from planner.step.engine.graph import Buffer, Dims, Graph, Value

CACHE = "key and value cache"
JOINED = "key and value cache, joined anew"
# All tokens that a layer's cache holds, of every sequence.
CACHED = "cached"


class KeyValueCache:
    """What layers keep while a prompt is read; with `decoding`, what one more token makes beside what stands."""

    def __init__(self, *, decoding: bool) -> None:
        self.decoding = decoding
        self.kept: list[Buffer] = []

    def update(self, graph: Graph, keys: Value, values: Value) -> tuple[Value, Value]:
        """`past_key_values.update(keys, values)`. What comes back has the rows of all tokens in the cache."""
        if self.decoding:
            return self._joined(graph, keys), self._joined(graph, values)
        both = tuple(graph.new(value.each, value.dims, CACHE) for value in (keys, values))
        self.kept += both
        return keys._replace(buffer=both[0]), values._replace(buffer=both[1])

    def keep(self, graph: Graph, each: int, dims: Dims) -> None:
        """What stays beside keys and values: the indexer's keys (DynamicIndexedLayer.update_indexer)."""
        if not self.decoding:
            self.kept.append(graph.new(each, dims, CACHE))

    def keep_states(self, graph: Graph, each: int, state: Dims) -> None:
        """What a layer without keys hands on: its state in float32, and the last inputs of its short convolution.

        Source: cache_utils.py, LinearAttentionLayer; later tokens are copied into both.
        """
        if not self.decoding:
            self.kept += [graph.new(4, state, CACHE), graph.new(each, ("b", "conv", "conv kernel"), CACHE)]

    def _joined(self, graph: Graph, value: Value) -> Value:
        """The new tensor beside the old one, which goes at once; what stays is counted as standing."""
        dims: Dims = (CACHED, *value.dims[1:])
        joined = graph.new(value.each, dims, JOINED)
        del joined
        return Value(None, value.each, dims)
