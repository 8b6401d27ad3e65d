"""VeRA: two random matrices that all modules share and nobody trains, and two trained vectors of factors.

Source: peft 0.21.2, tuners/vera/layer.py Linear.forward.
"""

from planner.families.parts import Linear
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import add, cast, clone, dropout, matmul, parameter
from planner.step.norms import scale_by_weight
from planner.step.projections.adapters import autocast_input
from planner.step.projections.peft_method import Base
from planner.step.switches import Switches

# PEFT's cast of adapters leaves the matrices in float32; a stack's own goes over what is trained.
_MATRIX_BYTES = 4


@framed
def vera(graph: Graph, switches: Switches, part: Linear, x: Value, base: Base) -> Value:
    """`base(x) + lambda_b * B(lambda_d * A(dropout(x)))`."""
    before, rank = x.each, switches.rank(part.name)
    result = graph.hold(base.of(x))
    expected = result.each
    if base.in_4bit:
        result = graph.replace(result, clone(graph, result))
    x = graph.replace(x, cast(graph, x, switches.adapter))
    inner = graph.hold(dropout(graph, x) if switches.dropout else x)
    low = graph.hold(_product(graph, switches, inner, (part.in_, rank)))
    graph.release(inner)
    low = graph.replace(low, _scaled(graph, switches, low))
    high = graph.hold(_product(graph, switches, low, (rank, part.out)))
    graph.release(low)
    high = graph.replace(high, _scaled(graph, switches, high))
    result = graph.replace(result, add(graph, result, high))
    graph.release(high)
    result = graph.replace(result, cast(graph, result, expected))
    return cast(graph, result, before)


@framed
def _product(graph: Graph, switches: Switches, x: Value, shape: tuple[str, str]) -> Value:
    """By a slice of a shared matrix, `shape` (in, out); autocast casts what is no parameter each time."""
    weight = graph.hold(parameter(_MATRIX_BYTES, (shape[1], shape[0])))
    if switches.autocast:
        x = graph.hold(autocast_input(graph, x, switches.autocast))
        weight = graph.replace(weight, cast(graph, weight, switches.autocast))
    return matmul(graph, x, weight, shape[1])


def _scaled(graph: Graph, switches: Switches, x: Value) -> Value:
    return scale_by_weight(graph, x, parameter(switches.adapter, x.dims[-1:], trained=True))
