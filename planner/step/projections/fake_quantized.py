"""Linear layers that train for quantization: weight and input are rounded to few values in each forward pass.

Source: torchao 0.18 quantization/qat: linear.py FakeQuantizedLinear.forward, fake_quantizer.py IntxFakeQuantizer;
quantization/quant_primitives.py _do_fake_quantize_affine. Scales and zero points that a layer keeps from one forward to
the next are no part of the step (planner/step/fake_quantized_scales.py): new ones take the place of those.
"""

from planner.step.engine.cards import new_tensor
from planner.step.engine.gradients import later
from planner.step.engine.graph import Buffer, Dims, Graph, Outcome, Value, framed
from planner.step.engine.ops import GRADIENTS, cast, shift

ROUNDED = "fake-quantized copies"
_WIDE = 4


@framed
def fake_quantized(graph: Graph, x: Value, scales: Dims, group: int) -> Value:
    """`x`, each `group` of whose elements shares a scale, quantized and dequantized; `scales / group` are the scales.

    Products with a float32 scale are float32. Rounding passes its gradient through; clamping saves its input.
    """
    each = x.each
    _new_scales(graph, scales, group)
    with graph.cause(ROUNDED):
        wide = graph.hold(_scaled(graph, x, graph.new(_WIDE, scales, "", group)))
        wide = graph.replace(wide, shift(graph, wide))  # round
        wide = graph.replace(wide, shift(graph, wide))  # + zero_point
        quantized = graph.replace(wide, _clamped(graph, wide))
        result = graph.hold(_copied(graph, quantized, each))
        result = graph.replace(result, _minus_zero(graph, result, scales, group))
        result = graph.replace(result, _scaled(graph, result, None))
        return cast(graph, result, each)


@framed
def _new_scales(graph: Graph, scales: Dims, group: int) -> None:
    """A scale and a zero point, whose int32 copy is kept in place of the float32 one."""
    scale = graph.hold(graph.new(_WIDE, scales, "", group))
    zero = graph.hold(graph.new(_WIDE, scales, "", group))
    graph.release(scale, zero)


@framed
def _scaled(graph: Graph, x: Value, factor: Buffer | None) -> Value:
    """`x * factor` in float32, which saves the factor, and is cast back for a narrower x. None: the layer keeps it."""
    edge_in, own, dims = x.edge, x.each, x.dims
    if not graph.needs(x):
        return Value(graph.new(_WIDE, dims), _WIDE, dims)
    tag = GRADIENTS if edge_in is not None and edge_in.leaf else ""

    def backward(_: Buffer) -> Outcome:
        if own == _WIDE:
            return ((edge_in, graph.new(_WIDE, dims, tag)),)
        return ((edge_in, later(graph.new(_WIDE, dims), lambda: graph.new(own, dims, tag))),)

    edge = graph.node(backward, graph.save(factor))
    return Value(graph.new(_WIDE, dims), _WIDE, dims, edge)


@framed
def _minus_zero(graph: Graph, x: Value, scales: Dims, group: int) -> Value:
    """`x - zero_point.to(dtype)`."""
    graph.hold(graph.new(x.each, scales, "", group))
    return new_tensor(graph, x, x.each, x.dims, passes=True)


@framed
def _clamped(graph: Graph, x: Value) -> Value:
    """`torch.clamp` of both ends: backward compares twice, and chooses the gradient or nought."""
    if not graph.needs(x):
        return Value(graph.new(x.each, x.dims), x.each, x.dims)
    edge_in, each, dims = x.edge, x.each, x.dims

    def backward(_: Buffer) -> Outcome:
        nought = graph.hold(graph.new(each, ()))
        above = graph.hold(graph.new(1, dims))
        graph.release(graph.new(1, dims))
        made = graph.new(each, dims)
        graph.release(nought, above)
        return ((edge_in, made),)

    edge = graph.node(backward, graph.save(x))
    return Value(graph.new(each, dims), each, dims, edge)


@framed
def _copied(graph: Graph, x: Value, each: int) -> Value:
    """`x.to(dtype, copy=True)`: its gradient is cast back."""
    return new_tensor(graph, x, each, x.dims, passes=each == x.each)
