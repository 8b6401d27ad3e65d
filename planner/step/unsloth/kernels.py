"""Unsloth's norm, rotary embedding and attention: what each makes, saves and writes over.

Source: unsloth 2026.10.9 kernels/rms_layernorm.py, kernels/rope_embedding.py, utils/attention_dispatch.py. Without
flash-attn or xformers, torch's own kernels run, and batches are one row of sequences behind one another.
"""

from planner.step.attention.flash_unpadded import without_padding
from planner.step.attention.kernels import flash, mem_efficient
from planner.step.engine.graph import Buffer, Edge, Graph, Outcome, Value, framed
from planner.step.engine.ops import clone, relayout_gradient
from planner.step.switches import LayerSwitches, Switches


@framed
def norm(graph: Graph, x: Value, *, overwrites: bool, cause: str = "norms") -> Value:
    """Saves its input and one float32 per row; `overwrites`: its gradient is written over the incoming one.

    Weights of a frozen model get no gradient.
    """
    with graph.cause(cause):
        out, rstd = graph.hold((graph.new(x.each, x.dims), graph.new(4, x.dims[:-1])))
        if not graph.needs(x):
            return Value(out, x.each, x.dims)
        edge_in, each, dims = x.edge, x.each, x.dims

        def backward(grad: Buffer) -> Outcome:
            return ((edge_in, grad if overwrites else graph.new(each, dims)),)

        return Value(out, each, dims, graph.node(backward, graph.save(x, rstd)))


@framed
def rotated(graph: Graph, q: Value, k: Value, *, one_head: bool) -> tuple[Value, Value]:
    """q and k in one launch, into tensors of their own; a single key head lies contiguous and is turned in place.

    The gradients are head by head, which the projections' shape needs copied back (`with_token_order`).
    """
    made = graph.new(q.each, q.dims)
    turned = k.buffer if one_head else graph.new(k.each, k.dims)
    if not graph.needs(q, k):
        return Value(made, q.each, q.dims), Value(turned, k.each, k.dims)
    edges, other = (q.edge, k.edge), Edge()
    each, dims = q.each, (q.dims, k.dims)

    def backward(_: Buffer) -> Outcome:
        grads = [graph.new(each, own) for own in dims]
        other.drop()
        return tuple(zip(edges, grads, strict=True))

    first = graph.node(backward)
    return Value(made, each, q.dims, first), Value(turned, each, k.dims, other)


@framed
def attend(graph: Graph, qkv: tuple[Value, Value, Value], switches: Switches, layer: LayerSwitches) -> Value:
    """Attention over a row of sequences.

    Sequences of equal lengths are one call of scaled_dot_product_attention on views; its output is copied once more
    (torch.cat of one), and each gradient fills a tensor of zeros (select). Of unequal lengths, torch's varlen kernel
    takes the row as it is.
    """
    if layer.kernel == "flash" and switches.padded:
        return without_padding(graph, qkv, flash)
    q, k, v = (relayout_gradient(graph, value) for value in qkv)  # select: its gradient is put into zeros
    if layer.kernel == "flash":
        return clone(graph, flash(graph, (q, k, v), splits_keys=layer.splits_keys))
    return clone(graph, mem_efficient(graph, (q, k, v), None, wide=layer.wide_values))
