"""FlashAttention 2 on a padded batch: the tokens that count are gathered, attended to in one row, and put back.

Source: transformers 5.23 modeling_flash_attention_utils.py, `_upad_input`; flash_attn/bert_padding.py, pad_input;
torch 2.13 flash_attn/flash_api.cpp, mha_varlen_fwd and mha_varlen_bwd. `kept` counts the tokens that are not padding.
"""

from collections.abc import Callable

from planner.step.engine.graph import Buffer, Dims, Graph, Outcome, Value, framed

_INDEX_BYTES = 8
Kernel = Callable[[Graph, tuple[Value, Value, Value]], Value]


@framed
def without_padding(graph: Graph, qkv: tuple[Value, Value, Value], kernel: Kernel) -> Value:
    """Run `kernel` on the gathered tokens. The caller's names hold q, k and v until it is done."""
    q, k, v = graph.hold(qkv)
    lengths, indices = graph.hold(
        (graph.new(4, ("b",)), Value(graph.new(_INDEX_BYTES, ("kept",)), _INDEX_BYTES, ("kept",)))
    )
    starts = graph.new(4, ("b",))
    graph.release(lengths)
    k = graph.replace(k, _gathered(graph, k, indices))
    v = graph.replace(v, _gathered(graph, v, indices))
    q = graph.replace(q, _gathered(graph, q, indices))
    attended = kernel(graph, (q, k, v))
    out = _put_back(graph, attended, indices, qkv[0].dims)
    graph.release(starts)
    return out


@framed
def _gathered(graph: Graph, x: Value, indices: Value) -> Value:
    """`x[indices]`: saves the indices; its backward puts the rows back into zeros, in place."""
    return _rows(graph, x, indices, ("kept", *x.dims[1:]))


@framed
def _put_back(graph: Graph, x: Value, indices: Value, dims: Dims) -> Value:
    """Zeros with `x` at `indices`, saved; its backward gathers."""
    return _rows(graph, x, indices, dims)


@framed
def _rows(graph: Graph, x: Value, indices: Value, dims: Dims) -> Value:
    if not graph.needs(x):
        return Value(graph.new(x.each, dims), x.each, dims)
    edge_in, each, before = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, graph.new(each, before)),)

    out = graph.new(each, dims)
    return Value(out, each, dims, graph.node(backward, graph.save(indices)))
