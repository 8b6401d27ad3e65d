"""A product with a weight in hqq's groups. Source: hqq 0.2.8 core/quantize.py."""

from planner.families.parts import Linear
from planner.step.engine.graph import Buffer, Dims, Graph, Outcome, Value, framed

_EXPANDED = "expanded 4-bit weight"


@framed
def group_wise_matmul(graph: Graph, part: Linear, x: Value) -> Value:
    """`HQQMatmulNoCacheMul`: saves its input, expands the weight in the forward and again in the backward."""
    weight, each, rows = (part.out, part.in_), x.each, x.dims[:-1]
    if not graph.needs(x):
        return Value(_expand_and_multiply(graph, weight, each, (*rows, part.out)), each, (*rows, part.out))
    edge_in = x.edge

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, _expand_and_multiply(graph, weight, each, (*rows, part.in_))),)

    edge = graph.node(backward, graph.save(x))
    return Value(_expand_and_multiply(graph, weight, each, (*rows, part.out)), each, (*rows, part.out), edge)


@framed
def _expand_and_multiply(graph: Graph, weight: Dims, each: int, out: Dims) -> Buffer:
    """`Quantizer.dequantize`: the unpacked weight, less its zeros, times its scales: three copies at a time."""
    unpacked = graph.hold(graph.new(each, weight, _EXPANDED))
    shifted = graph.hold(graph.new(each, weight, _EXPANDED))
    expanded = graph.hold(graph.new(each, weight, _EXPANDED))
    graph.release(unpacked, shifted)
    result = graph.hold(graph.new(each, out))
    graph.release(expanded)
    return result
