"""LLM.int8: activations quantized row by row on the way in, the weight expanded on the way back.

Source: bitsandbytes 0.50 autograd/_functions.py MatMul8bitLt and backends/cuda/ops.py int8_vectorwise_quant,
int8_mixed_scaled_mm. The function keeps its input on the context (`ctx.tensors`), not through save_for_backward:
checkpointing cannot take it away and the engine does not release it, so that every quantized projection's input stays
until the graph dies: when the whole backward is over, or that of the layer, where a reentrant checkpoint made it.
"""

from planner.families.parts import Linear
from planner.timeline.switches import Switches
from planner.timeline.tape import Buffer, Outcome, Tape, Value

QUANTIZING = "int8: quantized activations and products"
WEIGHT = "int8: expanded weight"


def int8_matmul(tape: Tape, switches: Switches, part: Linear, x: Value) -> Value:
    """`Linear8bitLt.forward`, without outliers (synthetic activations have none)."""
    each, dims, rows = x.each, (*x.dims[:-1], part.out), x.dims[:-1]
    if not tape.needs(x):
        return Value(_product(tape, switches, part, x), each, dims)
    edge_in = x.edge
    tape.keep_with_graph(x)

    def backward(_: Buffer) -> Outcome:
        weight = tape.new(each, (part.out, part.in_), WEIGHT)
        scales = tape.new(4, (part.out,), WEIGHT)
        del scales
        grad = tape.new(each, (*rows, part.in_))
        del weight
        return ((edge_in, grad),)

    edge = tape.node(backward)
    return Value(_product(tape, switches, part, x), each, dims, edge)


def _product(tape: Tape, switches: Switches, part: Linear, x: Value) -> Buffer:
    """A float16 copy, its absolute values and mask, the int8 rows; then int32 sums, their float16 form, the output."""
    rows, out = x.dims[:-1], (*x.dims[:-1], part.out)
    copy = None if switches.float16 and x.each == 2 else tape.new(2, x.dims, QUANTIZING)
    work = [tape.new(2, x.dims, QUANTIZING), tape.new(1, x.dims, QUANTIZING)]
    quantized, scales = tape.new(1, x.dims, QUANTIZING), tape.new(4, rows, QUANTIZING)
    work.clear()
    del copy
    work = [tape.new(4, out, QUANTIZING), tape.new(2, out, QUANTIZING)]
    result = tape.new(x.each, out)
    work.clear()
    del quantized, scales
    return result
