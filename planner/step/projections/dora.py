"""DoRA: a dense copy of every adapted weight, made anew in each forward.

Source: peft 0.21 tuners/lora/dora.py DoraLinearLayer.forward and tuners/lora/variants.py DoraLinearVariant.
"""

from planner.families.parts import Linear
from planner.step.engine.cards import new_tensor
from planner.step.engine.graph import Buffer, Edge, Graph, Outcome, Value, framed
from planner.step.engine.ops import GRADIENTS, add, cast, clone, matmul, parameter, unary
from planner.step.norms import scale_by_weight
from planner.step.projections.adapters import adapter_matmul
from planner.step.switches import Switches

DENSE = "DoRA: dense adapter and base weights"


@framed
def dora(graph: Graph, switches: Switches, part: Linear, x: Value, result: Value) -> Value:
    """`(m/‖W + BA‖ - 1) · base + m/‖W + BA‖ · scale · B(A(x))`, to be added to the base output."""
    with graph.cause(DENSE):
        start = len(graph.nodes)
        dense = graph.hold(_dense_adapter(graph, switches, part, x))
        end = len(graph.nodes)
        expands = part.quantizable and switches.storage is not None
        weight = graph.hold((_dense_base if expands else _plain_base)(graph, switches, part, x.each))
        scale, lengths = graph.hold(_magnitude_over_norm(graph, part, x.each))
        low = graph.hold(adapter_matmul(graph, switches, x, (part.in_, switches.rank(part.name)), part.name))
        high = graph.hold(adapter_matmul(graph, switches, low, (switches.rank(part.name), part.out), part.name))
        graph.release(low)
        if switches.dropout:
            inner, held = graph.hold((x, weight))
            if switches.autocast:
                inner, held = graph.replace(
                    (inner, held), (cast(graph, x, switches.autocast), cast(graph, weight, switches.autocast))
                )
            result = graph.replace(result, matmul(graph, inner, held, part.out))
            graph.release(inner, held)
        elif part.bias:  # `base_result - bias`, whose gradient is that of base_result
            result = graph.replace(result, clone(graph, result))
        left = graph.hold(scale_by_weight(graph, result, _less_one(graph, scale)))
        right = graph.hold(unary(graph, scale_by_weight(graph, high, scale)))
        out = graph.hold(add(graph, left, right))
        graph.release(dense, weight, lengths)
        graph.forget(slice(start, end))
    return out


@framed
def _dense_adapter(graph: Graph, switches: Switches, part: Linear, x: Value) -> Value:
    """B(A(eye(K))) transposed; detached, so its graph dies when the forward has read it."""
    eye = graph.hold(Value(graph.new(switches.adapter, (part.in_, part.in_)), switches.adapter, (part.in_, part.in_)))
    low = graph.hold(adapter_matmul(graph, switches, eye, (part.in_, switches.rank(part.name)), part.name))
    high = adapter_matmul(graph, switches, low, (switches.rank(part.name), part.out), part.name)
    graph.release(eye)
    return cast(graph, high, x.each)


@framed
def _dense_base(graph: Graph, switches: Switches, part: Linear, each: int) -> Value:
    """The 4-bit weight expanded to its own dtype, then to x's."""
    dims = (part.out, part.in_)
    absmax = graph.new(4, dims, den=64) if switches.double_quant else None
    weight = Value(graph.new(switches.expanded, dims), switches.expanded, dims)
    graph.release(absmax)
    return cast(graph, weight, each)


def _plain_base(graph: Graph, switches: Switches, part: Linear, each: int) -> Value:
    return cast(graph, parameter(switches.residual, (part.out, part.in_)), each)


@framed
def _magnitude_over_norm(graph: Graph, part: Linear, each: int) -> tuple[Value, Buffer]:
    """`magnitude / ‖W + scale·BA‖` per output row, from two dense products that live for one line; and the norms, which
    have a name until the layer returns.
    """
    dims = (part.out, part.in_)
    scaled = graph.new(each, dims)
    summed = graph.new(each, dims)
    graph.release(scaled)
    lengths = graph.hold(graph.new(each, (part.out,)))
    graph.release(summed)

    def backward(_: Buffer) -> Outcome:
        return ((Edge(leaf=True), graph.new(4, (part.out,), GRADIENTS)),)

    edge = graph.node(backward, graph.save(lengths)) if graph.recording else None
    return Value(graph.new(4, (part.out,)), 4, (part.out,), edge), lengths


def _less_one(graph: Graph, x: Value) -> Value:
    return new_tensor(graph, x, x.each, x.dims, passes=True)
