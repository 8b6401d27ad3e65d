"""Products with the weights of a quantized checkpoint: GPTQ's and AWQ's packed ones, and FP8.

Sources: gptqmodel 7.7 nn_modules/qlinear (dequantize_weight, TorchLinear._forward_eager), the kernel that runs on every
card and trains; transformers 5.23 integrations/finegrained_fp8.py (FP8LinearFunction).
"""

from planner.families.parts import Linear
from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed

_EXPANDED = "expanded quantized weight"
# Columns that share a scale while FP8 activations are quantized, and of a weight's blocks in published checkpoints.
_BLOCK = 128


@framed
def packed_matmul(graph: Graph, part: Linear, x: Value) -> Value:
    """The weight is unpacked and scaled for one `torch.matmul`, which saves it for the gradient of its input."""
    weight, each, rows = (part.out, part.in_), x.each, x.dims[:-1]
    expanded = graph.hold(_unpacked(graph, each, (part.out, part.in_)))
    if not graph.needs(x):
        result = graph.hold(graph.new(each, (*rows, part.out)))
        graph.release(expanded)
        return Value(result, each, (*rows, part.out))
    edge_in = x.edge

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, graph.new(each, (*rows, part.in_))),)

    result = graph.hold(graph.new(each, (*rows, part.out)))
    edge = graph.node(backward, graph.save(Value(expanded, each, weight)))
    graph.release(expanded)
    return Value(result, each, (*rows, part.out), edge)


@framed
def _unpacked(graph: Graph, each: int, weight: tuple[str, str]) -> Buffer:
    """int32 shifted, narrowed to a byte, masked; then (value - zero point) x scale, all of the weight's size."""
    shifted = graph.hold(graph.new(4, weight, _EXPANDED))
    narrowed = graph.hold(graph.new(1, weight, _EXPANDED))
    graph.release(shifted)
    values = graph.hold(graph.new(1, weight, _EXPANDED))
    graph.release(narrowed)
    scales, zeros = graph.hold((graph.new(2, weight, _EXPANDED), graph.new(1, weight, _EXPANDED)))
    centred = graph.hold(graph.new(1, weight, _EXPANDED))
    expanded = graph.hold(graph.new(each, weight, _EXPANDED))
    graph.release(values, scales, zeros, centred)
    return expanded


@framed
def float8_matmul(graph: Graph, part: Linear, x: Value) -> Value:
    """Activations are quantized to a byte and a scale per block for the product; backward expands the weight."""
    weight, each, rows = (part.out, part.in_), x.each, x.dims[:-1]
    if not graph.needs(x):
        return Value(_float8_product(graph, part, x), each, (*rows, part.out))
    edge_in = x.edge

    def backward(_: Buffer) -> Outcome:
        expanded = graph.hold(graph.new(each, weight, _EXPANDED))
        scales = graph.hold(graph.new(each, weight, _EXPANDED, _BLOCK))
        graph.release(scales)
        grad = graph.hold(graph.new(each, (*rows, part.in_)))
        graph.release(expanded)
        return ((edge_in, grad),)

    edge = graph.node(backward)
    return Value(_float8_product(graph, part, x), each, (*rows, part.out), edge)


@framed
def _float8_product(graph: Graph, part: Linear, x: Value) -> Buffer:
    quantized = graph.hold(graph.new(1, x.dims))
    scales = graph.hold(graph.new(4, x.dims, den=_BLOCK))
    result = graph.hold(graph.new(x.each, (*x.dims[:-1], part.out)))
    graph.release(quantized, scales)
    return result
