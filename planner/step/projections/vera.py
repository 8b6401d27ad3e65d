"""VeRA: two random matrices that all modules share, never trained, and two trained vectors of factors.

Source: peft 0.21.2, tuners/vera/layer.py Linear.forward.
"""

from planner.families.parts import Linear
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import add, cast, clone, dropout, parameter
from planner.step.norms import scale_by_weight
from planner.step.projections.peft_method import Base, product
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
    low = graph.hold(product(graph, switches, inner, parameter(_MATRIX_BYTES, (rank, part.in_)), rank))
    graph.release(inner)
    low = graph.replace(low, _scaled(graph, switches, low))
    high = graph.hold(product(graph, switches, low, parameter(_MATRIX_BYTES, (part.out, rank)), part.out))
    graph.release(low)
    high = graph.replace(high, _scaled(graph, switches, high))
    result = graph.replace(result, add(graph, result, high))
    graph.release(high)
    result = graph.replace(result, cast(graph, result, expected))
    return cast(graph, result, before)


def _scaled(graph: Graph, switches: Switches, x: Value) -> Value:
    return scale_by_weight(graph, x, parameter(switches.adapter, x.dims[-1:], trained=True))
