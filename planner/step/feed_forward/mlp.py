"""Feed-forward parts: gated and plain.

Source: transformers 5.23 models/llama/modeling_llama.py LlamaMLP; activations.py.
"""

from planner.families.parts import GatedMlp, Mlp, PlainMlp
from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed
from planner.step.engine.ops import add, cast, clone, mul, shift, square, unary
from planner.step.engine.slice_ops import split
from planner.step.feed_forward.xielu import xielu
from planner.step.projections.linear import Projector
from planner.step.switches import Switches

MLP = "MLP: gate, up and their product"


@framed
def gated(graph: Graph, part: GatedMlp, x: Value, project: Projector) -> Value:
    """`down(act(gate(x)) * up(x))`: saves gate (for act), act's output and up (for the product)."""
    with graph.cause(MLP):
        if part.fused:
            gate, up = graph.hold(split(graph, project(part.fused, x), (("T", "I"), ("T", "I"))))
            # Liger's kernel wants gate and up contiguous (ops/swiglu.py, ensure_contiguous).
            if project.switches.liger.swiglu:
                return project(part.down, _liger(graph, clone(graph, gate), clone(graph, up)))
            return project(part.down, mul(graph, up, activation(graph, part.act, gate, project.switches.autocast)))
        if not (part.gate and part.up):
            msg = "a gated MLP needs gate and up or one fused projection"
            raise ValueError(msg)
        if project.switches.liger.swiglu:
            return project(part.down, _liger(graph, project(part.gate, x), project(part.up, x)))
        bent = activation(graph, part.act, project(part.gate, x), project.switches.autocast)
        product = mul(graph, bent, project(part.up, x))
        return project(part.down, product)


@framed
def _liger(graph: Graph, gate: Value, up: Value) -> Value:
    """Saves gate and up and writes their gradients over them (ops/swiglu.py)."""
    out = graph.new(gate.each, gate.dims)
    if not graph.needs(gate, up):
        return Value(out, gate.each, gate.dims)
    edges, saved = (gate.edge, up.edge), graph.save(gate, up)

    def backward(_: Buffer) -> Outcome:
        return (edges[0], saved[0].buffer), (edges[1], saved[1].buffer)

    return Value(out, gate.each, gate.dims, graph.node(backward, saved))


@framed
def plain_mlp(graph: Graph, part: PlainMlp, x: Value, project: Projector) -> Value:
    """`down(act(up(x)))`."""
    with graph.cause("MLP: inner activations"):
        return project(part.down, _bent(graph, part.act, project(part.up, x), project.switches))


@framed
def inline_mlp(graph: Graph, part: Mlp | None, x: Value, project: Projector) -> Value:
    """The same in the layer's own code, where the first product takes the name of what enters."""
    if not isinstance(part, PlainMlp):
        msg = "only a plain MLP is run by a layer's own code"
        raise TypeError(msg)
    with graph.cause("MLP: inner activations"):
        up = graph.replace(x, project(part.up, x))
        bent = _bent(graph, part.act, up, project.switches)
        graph.release(up)
        return project(part.down, bent)


@framed
def shared_expert(graph: Graph, part: GatedMlp | PlainMlp, x: Value, project: Projector) -> Value:
    """The expert that every token goes to, beside the chosen ones."""
    return gated(graph, part, x, project) if isinstance(part, GatedMlp) else plain_mlp(graph, part, x, project)


@framed
def _bent(graph: Graph, act: str, x: Value, switches: Switches) -> Value:
    return xielu(graph, x, switches) if act == "xielu" else activation(graph, act, x, switches.autocast)


@framed
def activation(graph: Graph, act: str, x: Value, autocast: int) -> Value:
    """SiLU, GELU (exact or tanh): one kernel, saves its input. ReLU saves its output. The rest is written out."""
    if act == "relu2":
        # torch.square is pow(2), which autocast runs in float32 (autocast_mode.h).
        x = graph.replace(x, unary(graph, x, saves="output"))
        return square(graph, cast(graph, x, 4) if autocast else x)
    if act == "gelu_bloom":
        return _gelu_bloom(graph, x)
    if act == "gelu_new":
        return _gelu_new(graph, x, autocast)
    return unary(graph, x, saves="output" if act == "relu" else "input")


@framed
def _gelu_new(graph: Graph, x: Value, autocast: int) -> Value:
    """`0.5·x · (1 + tanh(√(2/π) · (x + 0.044715·x³)))`, operator by operator: keeps x, 0.5·x, tanh and 1 + tanh.

    Source: transformers 5.23 activations.py NewGELUActivation; the power runs in float32 under autocast.
    """
    half = unary(graph, x)
    cubed = square(graph, cast(graph, x, 4) if autocast else x)
    scaled = unary(graph, cubed)
    summed = add(graph, x, scaled)
    inner = unary(graph, summed)
    bent = unary(graph, inner, saves="output")
    shifted = shift(graph, bent)
    return mul(graph, half, shifted)


@framed
def _gelu_bloom(graph: Graph, x: Value) -> Value:
    """BloomGelu: a function of its own that saves x alone and works the rest out again in its backward.

    Source: transformers 5.23 models/bloom/modeling_bloom.py bloom_gelu_forward and bloom_gelu_back.
    """
    edge_in, each, dims = x.edge, x.each, x.dims

    def fresh() -> Buffer:
        return graph.new(each, dims)

    def inner() -> Buffer:
        outer, cube = graph.hold((fresh(), fresh()))
        cube = graph.replace(cube, fresh())
        cube = graph.replace(cube, fresh())
        out = fresh()
        graph.release(outer, cube)
        return out

    def bent() -> Buffer:
        argument = graph.hold(inner())
        out = fresh()
        graph.release(argument)
        return out

    def backward(_: Buffer) -> Outcome:
        tanh = graph.hold(bent())
        half, work = graph.hold((fresh(), fresh()))
        work = graph.replace(work, fresh())
        other = graph.hold(fresh())
        other = graph.replace(other, fresh())
        other = graph.replace(other, fresh())
        work = graph.replace(work, fresh())
        other = graph.replace(other, half)
        left = graph.hold(fresh())
        graph.release(half, work, other)
        right = graph.hold(fresh())
        right = graph.replace(right, fresh())
        slope = graph.hold(fresh())
        graph.release(left, right)
        grad = graph.hold(fresh())
        graph.release(tanh, slope)
        return ((edge_in, grad),)

    saved = graph.save(x) if graph.needs(x) else None
    half = graph.hold(fresh())
    tanh = graph.hold(bent())
    shifted = graph.hold(fresh())
    graph.release(tanh)
    out = graph.hold(fresh())
    graph.release(half, shifted)
    return Value(out, each, dims, graph.node(backward, saved) if saved else None)
