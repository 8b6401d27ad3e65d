"""Softmax over the last dimension, in the dtype of its input or in float32."""

from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed
from planner.step.engine.ops import cast
from planner.step.engine.widths import OTHER_HALF

WORKSPACE = "attention backward workspace"


def softmax(graph: Graph, x: Value) -> Value:
    """Saves its output; its CUDA backward makes `grad * output` beside the result (SoftMax.cu)."""
    return _softmax(graph, x, x.each)


@framed
def safe_softmax(graph: Graph, x: Value) -> Value:
    """`_safe_softmax` asks which rows are masked whole: a byte for each score, one for each row; it sets those to a
    zero that is a tensor.
    """
    out = graph.hold(softmax(graph, x))
    masked = graph.new(1, x.dims)
    rows = graph.new(1, x.dims[:-1])
    zero = graph.new(4, ())
    graph.release(zero, rows, masked)
    return out


@framed
def softmax_in_float32(graph: Graph, x: Value, float16: bool) -> Value:
    """`softmax(x, dtype=float32)`; `float16`: whether the run's own 16-bit type is that.

    CUDA reads float16 as it is and writes float32 (`half_to_float`, aten/src/ATen/native/SoftMax.cpp); bfloat16 is
    copied to float32 first.
    """
    return _softmax(graph, x if x.each == (2 if float16 else OTHER_HALF) else cast(graph, x, 4), 4)


@framed
def _softmax(graph: Graph, x: Value, wide: int) -> Value:
    edge_in, each, dims = x.edge, x.each, x.dims
    out = graph.hold(graph.new(wide, dims))
    if not graph.needs(x):
        return Value(out, wide, dims)

    def backward(_: Buffer) -> Outcome:
        grad = graph.new(each, dims)
        graph.release(graph.new(wide, dims, WORKSPACE))
        return ((edge_in, grad),)

    return Value(out, wide, dims, graph.node(backward, graph.save(out)))
