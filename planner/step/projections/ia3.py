"""IA3: a factor for each number that a projection gives, or that a feed-forward projection is given.

Source: peft 0.21.2, tuners/ia3/layer.py Linear.forward, tuners/ia3/bnb.py.
"""

from planner.families.parts import Linear
from planner.step.engine.cards import new_tensor
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import GRADIENTS, cast, clone, parameter
from planner.step.norms import scale_by_weight
from planner.step.projections.peft_method import Base
from planner.step.switches import Switches

_WIDE_BYTES = 4


@framed
def ia3(graph: Graph, switches: Switches, part: Linear, x: Value, base: Base) -> Value:
    """`base(x) * factors`, or `base(x * factors)` where the input is scaled."""
    given, quantized = part.name in switches.scaled_inputs, base.quantized
    width = part.in_ if given else part.out
    leaf = parameter(switches.adapter, (width,), trained=True)
    factors = graph.hold(new_tensor(graph, leaf, switches.adapter, (width,), tag=GRADIENTS))  # 1 * them
    before = x.each
    if quantized and not switches.autocast:
        x = graph.replace(x, cast(graph, x, _WIDE_BYTES))
    if given:
        wide = graph.hold(x if quantized else cast(graph, x, switches.adapter))
        inner = graph.hold(scale_by_weight(graph, wide, factors, weight_last=True))
        inner = graph.replace(inner, inner if quantized else cast(graph, inner, before))
        result = graph.hold(base.of(inner))
        expected = result.each
    else:
        result = graph.hold(base.of(x))
        expected = result.each
        result = graph.replace(result, scale_by_weight(graph, result, factors, weight_last=True))
    if base.in_4bit:
        result = graph.replace(result, clone(graph, result))
    if quantized:
        return result if switches.autocast else cast(graph, result, expected)
    return result if given else cast(graph, result, expected)
