"""Projections with LoRA as Unsloth's own autograd functions: what they save, and what they write over.

Source: unsloth 2026.10.9 kernels/fast_lora.py (LoRA_QKV, LoRA_W, LoRA_MLP) and kernels/utils.py (matmul_lora,
fast_dequantize). Each makes its gradients in 16 bit; the engine casts those of the adapters to float32. A 4-bit weight
is expanded forward into one buffer that all layers share (planner/memory/unsloth.py), backward each for itself.
"""

from collections.abc import Sequence

from planner.families.parts import Attention, GatedMlp, Linear
from planner.step.engine.graph import Buffer, Dims, Edge, Graph, Outcome, SharedShelf, Shelf, Value, framed
from planner.step.engine.ops import GRADIENTS
from planner.step.projections.linear import ADAPTERS, EXPANDED, Projector
from planner.step.switches import Switches

MLP = "MLP: gate, up and their product"


def fused(project: Projector, *parts: Linear | None) -> bool:
    """Whether one function runs these projections: each has an adapter, none a bias or a magnitude (DoRA)."""
    adapters = project.layer.adapters
    return not project.switches.dora and all(part and part.name in adapters and not part.bias for part in parts)


@framed
def qkv(graph: Graph, part: Attention, x: Value, project: Projector) -> tuple[Value, Value, Value]:
    """LoRA_QKV: saves what it was given, and writes its gradient there."""
    switches, parts = project.switches, _all(part.q, part.k, part.v)
    masks = graph.hold(SharedShelf())
    made, dropped = [], None
    for one in parts:
        dropped = graph.replace(dropped, _dropped(graph, switches, x.dims, masks))
        made.append(_product(graph, switches, x.dims, one))
    dims = [(*x.dims[:-1], one.out) for one in parts]
    if not graph.recording:
        return _three([Value(each, x.each, own) for each, own in zip(made, dims, strict=True)])
    others, edge_in, saved = [Edge(), Edge()], x.edge, graph.save(x, *masks.buffers())

    def backward(_: Buffer) -> Outcome:
        work = [*_casts(graph, switches, parts), *_gradients(graph, switches, parts)]
        work += [graph.new(switches.model, (*x.dims[:-1], "r"), ADAPTERS) for _ in parts]
        again = None
        for _one in parts:
            again = graph.replace(again, _dropped_again(graph, switches, x.dims))
            _through_rank(graph, switches, x.dims)
        graph.release(again)
        for one in parts:
            _expand(graph, switches, one)
            _add_lora_dx(graph, switches, x.dims)
        graph.release(work)
        grads = _leaves(graph, switches, parts)
        for other in others:
            other.drop()
        return (edge_in, saved[0].buffer), *grads

    edges = (graph.node(backward, saved), *others)
    return _three([Value(each, x.each, own, edge) for each, own, edge in zip(made, dims, edges, strict=True)])


@framed
def output(graph: Graph, part: Linear, x: Value, project: Projector) -> Value:
    """LoRA_W: the output projection; its gradient is a tensor of its own."""
    switches, dims, masks = project.switches, (*x.dims[:-1], part.out), graph.hold(SharedShelf())
    dropped = _dropped(graph, switches, x.dims, masks)
    made = _product(graph, switches, x.dims, part)
    graph.release(dropped)
    if not graph.recording:
        return Value(made, x.each, dims)
    edge_in, saved, own = x.edge, graph.save(x, *masks.buffers()), x.dims

    def backward(_: Buffer) -> Outcome:
        work = [*_casts(graph, switches, [part]), *_gradients(graph, switches, [part])]
        work.append(graph.new(switches.model, (*own[:-1], "r"), ADAPTERS))
        again = _dropped_again(graph, switches, own)
        _through_rank(graph, switches, own)
        graph.release(again)
        weight = _expanded(graph, switches, part)
        to_x = graph.new(switches.model, own)
        graph.release(weight)
        _add_lora_dx(graph, switches, own)
        graph.release(work)
        return (edge_in, to_x), *_leaves(graph, switches, [part])

    return Value(made, x.each, dims, graph.node(backward, saved))


@framed
def mlp(graph: Graph, part: GatedMlp, x: Value, project: Projector) -> Value:
    """LoRA_MLP: saves what it was given, gate and up; the gradients of all three are written over them."""
    switches = project.switches
    gate, up = _all(part.gate, part.up)
    parts, rows = (gate, up, part.down), x.dims[:-1]
    with graph.cause(MLP):
        masks = graph.hold(SharedShelf())
        dropped = graph.hold(_dropped(graph, switches, x.dims, masks))
        gated = graph.hold(_product(graph, switches, x.dims, gate))
        dropped = graph.replace(dropped, _dropped(graph, switches, x.dims, masks))
        upper = graph.hold(_product(graph, switches, x.dims, up))
        graph.release(dropped)
        graph.hold(graph.new(x.each, (*rows, part.down.in_)))  # the product of gate and up
        dropped = _dropped(graph, switches, (*rows, part.down.in_), masks)
        made = _product(graph, switches, (*rows, part.down.in_), part.down)
        graph.release(dropped)
        if not graph.recording:
            return Value(made, x.each, x.dims)
        edge_in, saved = x.edge, graph.save(x, gated, upper, *masks.buffers())

        def backward(_: Buffer) -> Outcome:
            casts, inner = _casts(graph, switches, parts), (*rows, part.down.in_)
            to_inner = _gradient_of_inner(graph, switches, part.down, inner)
            # The product of gate and up is written over it; with dropout, what the adapter saw of it is made again.
            seen = _dropped_again(graph, switches, inner)
            work = [*casts, *_gradients(graph, switches, parts)]
            low = graph.new(switches.model, (*rows, "r"), ADAPTERS)
            graph.release(low)
            low = graph.new(switches.model, ("r", *rows), ADAPTERS)
            graph.release(low)
            work += [graph.new(switches.model, (*rows, "r"), ADAPTERS) for _ in "ug"]
            again = None
            for _one in (up, gate):
                again = graph.replace(again, _dropped_again(graph, switches, x.dims))
                _through_rank(graph, switches, x.dims)
            graph.release(again)
            for one in (up, gate):
                _expand(graph, switches, one)
                _add_lora_dx(graph, switches, x.dims)
            graph.release(to_inner, seen, work)
            return (edge_in, saved[0].buffer), *_leaves(graph, switches, parts)

        return Value(made, x.each, x.dims, graph.node(backward, saved))


@framed
def _dropped(graph: Graph, switches: Switches, dims: Dims, masks: Shelf) -> Buffer | None:
    """What the adapter reads where it has dropout; its mask is saved."""
    if not switches.dropout:
        return None
    made = graph.new(switches.model, dims)
    masks.put(graph.new(1, dims))
    return made


def _dropped_again(graph: Graph, switches: Switches, dims: Dims) -> Buffer | None:
    """The same, made again from the mask."""
    return graph.new(switches.model, dims) if switches.dropout else None


@framed
def _product(graph: Graph, switches: Switches, dims: Dims, part: Linear) -> Buffer:
    """`matmul_lora`: the base product, to which the low-rank one is added in place. With dropout the weight is expanded
    for itself.
    """
    each, rows = switches.model, dims[:-1]
    weight = _expanded(graph, switches, part) if switches.dropout else None
    made = graph.new(each, (*rows, part.out))
    graph.mark_product()
    graph.release(weight)
    down = graph.new(each, (part.in_, "r"), ADAPTERS) if switches.adapter != each else None
    low = graph.new(each, (*rows, "r"), ADAPTERS)
    graph.release(down)
    up = graph.new(each, ("r", part.out), ADAPTERS) if switches.adapter != each else None
    graph.release(up, low)
    return made


@framed
def _gradient_of_inner(graph: Graph, switches: Switches, down: Linear, dims: Dims) -> Buffer:
    """Of the product of gate and up. With dropout the adapter's part goes through the mask before it is added."""
    weight = _expanded(graph, switches, down) if switches.dropout else None
    made = graph.new(switches.model, dims)
    graph.release(weight)
    low = graph.hold(graph.new(switches.model, (*dims[:-1], "r"), ADAPTERS))
    if switches.dropout:
        product = graph.new(switches.model, dims)
        graph.release(low)
        replayed = graph.new(switches.model, dims)
        graph.release(product, replayed)
    return made


def _casts(graph: Graph, switches: Switches, parts: Sequence[Linear]) -> list[Buffer]:
    """The adapters in 16 bit."""
    if switches.adapter == switches.model:
        return []
    return _gradients(graph, switches, parts)


def _gradients(graph: Graph, switches: Switches, parts: Sequence[Linear]) -> list[Buffer]:
    """A 16-bit tensor of the size of each of the adapters' matrices."""
    shapes = [shape for part in parts for shape in ((part.in_, "r"), ("r", part.out))]
    return [graph.new(switches.model, shape, ADAPTERS) for shape in shapes]


@framed
def _leaves(graph: Graph, switches: Switches, parts: Sequence[Linear]) -> Outcome:
    """What the engine makes of those: gradients in the adapters' dtype, one after another."""
    narrow = _gradients(graph, switches, parts)
    shapes = [shape for part in parts for shape in ((part.in_, "r"), ("r", part.out))]
    found = []
    for shape in shapes:
        found.append((Edge(leaf=True), graph.new(switches.adapter, shape, GRADIENTS)))
        graph.release(narrow.pop(0))
    return tuple(found)


@framed
def _through_rank(graph: Graph, switches: Switches, dims: Dims) -> None:
    """`A.t() @ X.t()`."""
    low = graph.new(switches.model, ("r", *dims[:-1]), ADAPTERS)
    graph.release(low)


@framed
def _add_lora_dx(graph: Graph, switches: Switches, dims: Dims) -> None:
    """Added in place; through the mask, a product and its masked copy come first."""
    if switches.dropout:
        product = graph.new(switches.model, dims)
        replayed = graph.new(switches.model, dims)
        graph.release(product, replayed)


def _expanded(graph: Graph, switches: Switches, part: Linear) -> Buffer | None:
    return graph.new(switches.model, (part.out, part.in_), EXPANDED) if switches.storage == "4bit" else None


@framed
def _expand(graph: Graph, switches: Switches, part: Linear) -> None:
    weight = _expanded(graph, switches, part)
    graph.release(weight)


def _all(*parts: Linear | None) -> list[Linear]:
    return [part for part in parts if part]


def _three(values: list[Value]) -> tuple[Value, Value, Value]:
    return values[0], values[1], values[2]
