"""cuDNN's attention, which torch prefers on compute capability 9.x and 10.x."""

from planner.step.engine.graph import Buffer, Dims, Graph, Outcome, Value, framed


@framed
def cudnn(graph: Graph, qkv: tuple[Value, Value, Value], bias: Buffer | None, dims: Dims, cause: str) -> Value:
    """Saves q, k, v, the additive mask, the output of `dims`, a float32 log-sum-exp and two random states.

    Backward: the three gradients, of keys and values as many heads as these have, and one workspace: dq in float32 and
    a number for each row (cudnn-frontend, scaled_dot_product_flash_attention.h get_fe_workspace_size_node). What
    cuDNN's own plan takes beside it only the library can tell; the dry run has 0 bytes for it, and so has this.
    Source: torch 2.14 aten/src/ATen/native/cudnn/MHA.cpp, run_cudnn_SDP_fprop and _bprop.
    """
    q, k, v = qkv
    each = q.each
    inputs = tuple((value.edge, value.dims) for value in qkv)
    saved = graph.save(q, k, v, bias) if graph.needs(q, k, v) else None
    states = graph.hold((graph.new(8, ()), graph.new(8, ())))
    out = graph.hold(graph.new(each, dims))
    if saved is None:
        return Value(out, each, dims)
    lse = graph.new(4, (dims[0], "H"))

    def backward(_: Buffer) -> Outcome:
        grads = tuple((edge, graph.new(each, own)) for edge, own in inputs)
        work = graph.new(4, ("cudnn work",), cause)
        graph.release(work)
        return grads

    return Value(out, each, dims, graph.node(backward, saved + graph.save(out, lse, *states)))
