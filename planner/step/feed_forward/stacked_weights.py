"""Stacked expert weights: as they are, or with PEFT's adapter folded into all of them at once.

Source: peft 0.21 tuners/lora/layer.py, ParamWrapper and _LoraFactorsProxy. The folded weight is as large as the
stack, `E·out·in`; it lives until the experts are done, and until their backward where it is saved.
"""

from typing import NamedTuple

from planner.families.parts import Linear
from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed
from planner.step.engine.ops import GRADIENTS, add, cast, matmul, parameter, unary
from planner.step.projections.adapters import autocast_weight
from planner.step.projections.linear import ADAPTERS, Projector

FOLDED = "expert weights with their adapters folded in"
Factors = tuple[Value, Value] | None


@framed
def factors_of(graph: Graph, project: Projector, part: Linear) -> Factors:
    """B and A in the weights' dtype, made when the wrapper is entered; None where the stack has no adapter.

    torch tries a new parametrization once (nn/utils/parametrize.py, register_parametrization): one product is made
    and dropped.
    """
    if part.name not in project.layer.adapters:
        return None
    adapter, held, rank = project.switches.adapter, project.switches.residual, project.switches.rank(part.name)
    with graph.cause(ADAPTERS):
        b = cast(graph, _permuted(graph, parameter(adapter, ("E", part.out, rank), trained=True)), held)
        a = parameter(adapter, ("E", rank, part.in_), trained=True)
        a = cast(graph, _permuted(graph, a) if part.transposed else a, held)
    tried = graph.new(held, ("E", part.out, part.in_), FOLDED)
    graph.release(tried)
    return b, a


@framed
def _permuted(graph: Graph, b: Value) -> Value:
    """A view of `lora_B`; its gradient is copied back to the order the parameter has."""
    edge_in, each, dims = b.edge, b.each, b.dims
    if not graph.needs(b):
        return b
    return Value(None, each, dims, graph.node(lambda _: ((edge_in, graph.new(each, dims, GRADIENTS)),)))


@framed
def expert_weight(graph: Graph, project: Projector, part: Linear, factors: Factors) -> Value:
    """`W`, or `baddbmm(W, B, A)`."""
    held, dims = project.switches.held(part.name), ("E", part.out, part.in_)
    if factors is None:
        return parameter(held, dims, trained=project.switches.trains(part.name))
    b, a = factors
    if not graph.needs(b, a):
        return Value(graph.new(held, dims, FOLDED), held, dims)
    edges, shapes = (b.edge, a.edge), (b.dims, a.dims)
    leaf = a.edge is not None and a.edge.leaf

    def backward(_: Buffer) -> Outcome:
        product = graph.new(held, shapes[0])
        to_b = graph.new(held, shapes[0])
        graph.release(product)
        product = graph.new(held, shapes[1])
        to_a = graph.new(held, shapes[1], GRADIENTS if leaf else "")
        graph.release(product)
        return (edges[0], to_b), (edges[1], to_a)

    with graph.cause(ADAPTERS):
        edge = graph.node(backward, graph.save(b, a))
    return Value(graph.new(held, dims, FOLDED), held, dims, edge)


class GroupedProduct(NamedTuple):
    """`grouped_mm`: every row times its expert's matrix, `offsets` saying where each expert's rows end.

    It saves the rows for the weights' gradient, the weights for the rows'. The loop that stands in for it (`loops`;
    integrations/moe.py, _grouped_mm_fallback) saves both and makes both gradients, wanted or not.
    """

    graph: Graph
    offsets: Value
    loops: bool

    @framed
    def __call__(self, x: Value, weight: Value, out: str) -> Value:
        """The product, `out` wide."""
        graph, loops = self.graph, self.loops
        x, dims = graph.replace(x, cast(graph, x, weight.each)), (*x.dims[:-1], out)
        if not graph.needs(x, weight):
            return Value(graph.new(x.each, dims), x.each, dims)
        each, x_edge, w_edge, x_dims, w_dims = x.each, x.edge, weight.edge, x.dims, weight.dims
        tag = GRADIENTS if w_edge and w_edge.leaf else FOLDED + " (gradients)"

        def backward(_: Buffer) -> Outcome:
            to_x = graph.new(each, x_dims) if loops else None
            to_weight = graph.new(each, w_dims, tag) if w_edge or loops else None
            if x_edge and not loops:
                to_x = graph.new(each, x_dims)
            return (w_edge, to_weight), (x_edge, to_x)

        saved = (graph.save(x) if w_edge or loops else []) + (graph.save(weight) if x_edge or loops else [])
        saved += graph.save(self.offsets)
        edge = graph.node(backward, saved)
        return Value(graph.new(each, dims), each, dims, edge)


@framed
def router_weight(graph: Graph, project: Projector, part: Linear) -> Value:
    """The router's matrix, with its adapter's product added where it has one (ParamWrapper of a 2-D parameter)."""
    switches, dims = project.switches, ("E", "h")
    weight = parameter(switches.held(part.name), dims, trained=switches.trains(part.name))
    if part.name not in project.layer.adapters:
        return weight
    with graph.cause(ADAPTERS):
        a = parameter(switches.adapter, ("r", "h"), trained=True)
        b = parameter(switches.adapter, ("E", "r"), trained=True)
        if switches.autocast:
            a = autocast_weight(graph, a, switches.autocast, f"{part.name} A")
            b = autocast_weight(graph, b, switches.autocast, f"{part.name} B")
        delta = cast(graph, unary(graph, matmul(graph, b, a, "h")), switches.residual)
        return add(graph, weight, delta)
