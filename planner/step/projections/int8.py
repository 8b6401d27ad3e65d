"""LLM.int8: activations quantized row by row on the way in, the weight expanded on the way back.

Source: bitsandbytes 0.50 autograd/_functions.py MatMul8bitLt and backends/cuda/ops.py int8_vectorwise_quant,
int8_mixed_scaled_mm. The function keeps its input on the context (`ctx.tensors`), not through save_for_backward:
checkpointing cannot take it away and the engine does not release it, so that every quantized projection's input stays
until the graph dies: when the whole backward is over, or that of the layer, where a reentrant checkpoint made it.
"""

from planner.families.parts import Linear
from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed
from planner.step.switches import Switches

QUANTIZING = "int8: quantized activations and products"
WEIGHT = "int8: expanded weight"


@framed
def int8_matmul(graph: Graph, switches: Switches, part: Linear, x: Value) -> Value:
    """`Linear8bitLt.forward`, without outliers (synthetic activations have none)."""
    each, dims, rows = x.each, (*x.dims[:-1], part.out), x.dims[:-1]
    if not graph.needs(x):
        return Value(_product(graph, switches, part, x), each, dims)
    edge_in = x.edge
    graph.keep_with_graph(x)

    def backward(_: Buffer) -> Outcome:
        weight = graph.new(each, (part.out, part.in_), WEIGHT)
        scales = graph.new(4, (part.out,), WEIGHT)
        graph.release(scales)
        grad = graph.new(each, (*rows, part.in_))
        graph.release(weight)
        return ((edge_in, grad),)

    edge = graph.node(backward)
    return Value(_product(graph, switches, part, x), each, dims, edge)


@framed
def _product(graph: Graph, switches: Switches, part: Linear, x: Value) -> Buffer:
    """A float16 copy, its absolute values and mask, the int8 rows; then int32 sums, their float16 form, the output."""
    rows, out = x.dims[:-1], (*x.dims[:-1], part.out)
    copy = None if switches.float16 and x.each == 2 else graph.new(2, x.dims, QUANTIZING)
    work = [graph.new(2, x.dims, QUANTIZING), graph.new(1, x.dims, QUANTIZING)]
    quantized, scales = graph.new(1, x.dims, QUANTIZING), graph.new(4, rows, QUANTIZING)
    graph.release(work)
    graph.release(copy)
    work = [graph.new(4, out, QUANTIZING), graph.new(2, out, QUANTIZING)]
    result = graph.new(x.each, out)
    graph.release(work)
    graph.release(quantized, scales)
    return result
