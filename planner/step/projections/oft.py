"""OFT: each block of a projection's input is rotated. The rotations are made anew in every forward, from the numbers
above the diagonal of a skew-symmetric block Q, by five terms of the Cayley transform's Neumann series.

Source: peft 0.21.2, tuners/oft/layer.py Linear.forward and OFTRotationModule.
"""

from planner.families.parts import Linear
from planner.step.engine.graph import Buffer, Dims, Edge, Graph, Outcome, Value, framed
from planner.step.engine.ops import GRADIENTS, bmm, cast, cast_later, clone
from planner.step.projections.peft_method import Base
from planner.step.switches import Switches, angles_of, block_of, rotated_blocks

ROTATIONS = "OFT: rotations and rotated inputs"


@framed
def oft(graph: Graph, switches: Switches, part: Linear, x: Value, base: Base) -> Value:
    """`base(rotated x)`, back in x's dtype."""
    before = x.each
    with graph.cause(ROTATIONS):
        x = graph.replace(x, cast(graph, x, switches.adapter))
        x = graph.replace(x, _rotated(graph, switches, part.in_, x))
        inner = graph.hold(cast(graph, x, before))
    result = graph.hold(base.of(inner))
    return cast(graph, result, before)


@framed
def _rotated(graph: Graph, switches: Switches, width: str, x: Value) -> Value:
    """`einsum("...rk,rkc->...rc")` of the input's blocks and their rotations."""
    rotations = graph.hold(_rotations(graph, switches, width))
    product = graph.hold(_product(graph, switches, x, rotations))
    whole = graph.hold(clone(graph, product))  # reshape: its blocks come first
    return cast(graph, whole, x.each)


@framed
def _rotations(graph: Graph, switches: Switches, width: str) -> Value:
    """`I + 2Q + 2Q² + 2Q³ + Q⁴`, added up in place."""
    each, dims = switches.adapter, (rotated_blocks(width), block_of(width), block_of(width))
    skew = graph.hold(_skew(graph, each, angles_of(width), dims))
    eye = graph.hold(graph.new(each, dims[1:]))
    total = graph.hold(Value(graph.new(each, dims), each, dims))
    graph.release(eye)
    total = graph.replace(total, _add_in_place(graph, total, skew, doubled=True))
    power = graph.hold(_product(graph, switches, skew, skew))
    total = graph.replace(total, _add_in_place(graph, total, power, doubled=True))
    power = graph.replace(power, _product(graph, switches, power, skew))
    total = graph.replace(total, _add_in_place(graph, total, power, doubled=True))
    power = graph.replace(power, _product(graph, switches, power, skew))
    return graph.replace(total, _add_in_place(graph, total, power, doubled=False))


@framed
def _skew(graph: Graph, each: int, angles: str, dims: Dims) -> Value:
    """The trained numbers above the diagonal of zeros, less the transposed."""
    filled = graph.hold(graph.new(each, dims))

    def of_filled(_: Buffer) -> Outcome:
        return ((Edge(leaf=True), graph.new(each, (dims[0], angles), GRADIENTS)),)

    edge = graph.node(of_filled, graph.save(None, None))  # the places are buffers of the module
    transposed = graph.node(lambda grad: ((edge, grad),))
    less = graph.node(lambda grad: ((edge, grad), (transposed, graph.new(each, dims))))
    out = graph.hold(graph.new(each, dims))
    graph.release(filled)
    return Value(out, each, dims, less)


@framed
def _product(graph: Graph, switches: Switches, a: Value, b: Value) -> Value:
    """A batched product, whose sides autocast casts each for itself."""
    each = switches.autocast or a.each
    a, b = graph.hold(cast(graph, a, each)), graph.hold(cast(graph, b, each))
    return bmm(graph, a, b, a.dims)


def _add_in_place(graph: Graph, total: Value, term: Value, *, doubled: bool) -> Value:
    """`total.add_(term)`, or twice the term; saves nothing."""
    each, own, dims, sides = total.each, term.each, total.dims, (total.edge, term.edge)

    def backward(grad: Buffer) -> Outcome:
        wide = graph.new(each, dims) if doubled else grad
        of_term = (sides[1], cast_later(graph, wide, dims, each=each, own=own))
        return ((sides[0], grad), of_term) if sides[0] else (of_term,)

    return Value(total.buffer, each, dims, graph.node(backward))
