"""AdaLoRA: LoRA with a factor for each rank, divided by their number, and what its matrices add to the loss.

Source: peft 0.21.2, tuners/adalora/layer.py SVDLinear.forward, adalora/bnb.py, adalora/model.py AdaLoraModel.forward.
"""

from planner.families.parts import Linear
from planner.step.engine.gradients import later
from planner.step.engine.graph import Buffer, Edge, Graph, Outcome, Shelf, Value, framed
from planner.step.engine.ops import GRADIENTS, add, cast, cast_later, clone, dropout, unary
from planner.step.engine.widths import promoted
from planner.step.projections.peft_method import Base, product
from planner.step.switches import ADALORA_ELEMENTS, ADALORA_SQUARES, ADALORA_TENSORS, Switches
from planner.units import ALLOCATION_GRANULE_BYTES

REGULAR = "AdaLoRA: how orthogonal its matrices are"
_WIDE_BYTES = 4


@framed
def adalora(graph: Graph, switches: Switches, part: Linear, x: Value, base: Base) -> Value:
    """`base(x) + dropout(x) @ (A * E).T @ B.T * scaling / rank`."""
    rank, each = switches.rank(part.name), switches.adapter
    result = graph.hold(base.of(x))
    expected = result.each
    if base.in_4bit:
        result = graph.replace(result, clone(graph, result))
    if not (switches.autocast and base.quantized):
        x = graph.replace(x, cast(graph, x, each))
    inner = graph.hold(dropout(graph, x) if switches.dropout else x)
    scaled = graph.hold(_scaled_by_rank(graph, switches, (rank, part.in_)))
    low = graph.hold(product(graph, switches, inner, scaled, rank))
    graph.release(inner, scaled)
    right = graph.hold(Value(None, each, (part.out, rank), _leaf(graph, switches)))
    high = graph.hold(product(graph, switches, low, right, part.out))
    graph.release(low)
    if base.quantized and not switches.autocast:
        high = graph.replace(high, cast(graph, high, expected))
    named = graph.hold(high if base.quantized else None)  # what `output * scaling / ranknum` is to take the name of
    high = graph.replace(high, unary(graph, high))
    # PEFT's cast of 16-bit adapters makes the rank a parameter that is trained (planner/tensors/peft_methods.py).
    own = switches.compute if base.in_4bit else switches.model if base.quantized else switches.residual
    high = graph.replace(high, _over_the_rank(graph, switches, high, trained=own < _WIDE_BYTES))
    graph.release(named)
    if base.quantized and not base.in_4bit:
        return add(graph, result, high)
    return _add_in_place(graph, result, high)


def _leaf(graph: Graph, switches: Switches) -> Edge:
    """Of a matrix. Where its gradient is there already, from the loss, what a layer makes is added to it, and goes."""
    return graph.node(lambda _: ()) if is_regularized(switches) else Edge(leaf=True)


def is_regularized(switches: Switches) -> bool:
    """Whether the model itself works out a loss, to which AdaLoRA adds: TRL's fused head leaves that to the trainer."""
    return switches.peft_type == "ADALORA" and switches.objective == "sft" and switches.loss != "chunked"


@framed
def _scaled_by_rank(graph: Graph, switches: Switches, dims: tuple[str, str]) -> Value:
    """`lora_A * lora_E`: of the factors' gradient a row is summed up."""
    each, matrix = switches.adapter, _leaf(graph, switches)

    def backward(_: Buffer) -> Outcome:
        of_factors = graph.new(each, dims)
        summed = later(of_factors, lambda: graph.new(each, dims[:1], GRADIENTS))
        return ((Edge(leaf=True), summed), (matrix, graph.new(each, dims)))

    edge = graph.node(backward, graph.save(None, None))
    return Value(graph.new(each, dims), each, dims, edge)


@framed
def _over_the_rank(graph: Graph, switches: Switches, x: Value, *, trained: bool) -> Value:
    """`x / (ranknum + 1e-5)`, a tensor of one number, which is saved; in float32 it widens what it divides."""
    kept = switches.adapter if trained else _WIDE_BYTES
    number = graph.hold(graph.new(kept, ()))
    edge_in, own, dims, each = x.edge, x.each, x.dims, promoted(x.each, kept)

    def wide() -> Buffer:
        return graph.new(each, dims)

    def of_number() -> Outcome:
        """`-grad * (x / number / number)`, summed up by the engine."""
        parts = [graph.hold(wide()) for _ in range(3)]
        product = wide()
        graph.release(*parts)
        return ((Edge(leaf=True), later(product, lambda: graph.new(kept, (), GRADIENTS))),)

    def backward(_: Buffer) -> Outcome:
        more = of_number() if trained else ()
        return ((edge_in, cast_later(graph, wide(), dims, each=each, own=own)), *more)

    saved = (x, number) if trained else (number,)
    edge = graph.node(backward, graph.save(*saved)) if graph.needs(x) else None
    return Value(wide(), each, dims, edge)


def _add_in_place(graph: Graph, result: Value, term: Value) -> Value:
    """`result += term` in the result's dtype; the term's gradient is cast to its own."""
    if not graph.needs(result, term):
        return result
    each, dims, sides = result.each, result.dims, (result.edge, term.edge)
    wide = term.each

    def backward(grad: Buffer) -> Outcome:
        of_term = (sides[1], grad if wide == each else graph.new(wide, dims))
        return ((sides[0], grad), of_term) if sides[0] else (of_term,)

    return Value(result.buffer, each, dims, graph.node(backward))


def regularized(graph: Graph, switches: Switches, loss: Value) -> Value:
    """The loss with how far each matrix's product with itself is from the identity; in place.

    Of each matrix both sides of the product are cast, and saved, and so are the difference and its norm. Going backward
    its gradient is made where the casts were, and waits for the layer's own. Error: where gradients accumulate, all of
    it waits here to the end, and not each matrix's until its layer has been (0.1 % too much).
    """
    if not is_regularized(switches) or not graph.recording:
        return loss
    new, autocast = graph.new, switches.autocast
    casts = autocast and autocast != switches.adapter
    kept = [new(autocast, (ADALORA_ELEMENTS,), REGULAR) for _ in range(2)] if casts else []
    kept.append(new(autocast or switches.adapter, (ADALORA_SQUARES,), REGULAR))
    kept.append(new(ALLOCATION_GRANULE_BYTES, (ADALORA_TENSORS,), REGULAR))
    for buffer in kept:
        buffer.own()
    matrices, before = Edge(leaf=True), loss.edge
    waiting = Shelf()
    graph.nodes.insert(0, waiting)  # cleared at the end of the backward pass

    def of_matrices(_: Buffer) -> Outcome:
        for buffer in kept:
            buffer.disown()
        made = new(switches.adapter, (ADALORA_ELEMENTS,), GRADIENTS)
        if graph.keeps_gradients:
            waiting.put(Value(made, switches.adapter, (ADALORA_ELEMENTS,)))
            return ()
        return ((matrices, made),)

    edge = graph.node(of_matrices)
    both = graph.node(lambda grad: ((before, grad), (edge, new(_WIDE_BYTES, ()))))
    return loss._replace(edge=both)
