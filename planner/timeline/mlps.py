"""Feed-forward parts: gated and plain.

Source: transformers 5.23 models/llama/modeling_llama.py LlamaMLP; activations.py.
"""

from planner.families.parts import GatedMlp, PlainMlp
from planner.timeline.ops import add, cast, clone, mul, shift, square, unary
from planner.timeline.pieces import split
from planner.timeline.projections import Projector
from planner.timeline.switches import Switches
from planner.timeline.tape import Buffer, Outcome, Tape, Value
from planner.timeline.xielu import xielu

MLP = "MLP: gate, up and their product"


def gated(tape: Tape, part: GatedMlp, x: Value, project: Projector) -> Value:
    """`down(act(gate(x)) * up(x))`: saves gate (for act), act's output and up (for the product)."""
    with tape.cause(MLP):
        if part.fused:
            gate, up = split(tape, project(part.fused, x), (("T", "I"), ("T", "I")))
            if project.switches.liger:  # its kernel wants gate and up contiguous (ops/swiglu.py, ensure_contiguous)
                return project(part.down, _liger(tape, clone(tape, gate), clone(tape, up)))
            return project(part.down, mul(tape, up, activation(tape, part.act, gate, project.switches.autocast)))
        if not (part.gate and part.up):
            msg = "a gated MLP needs gate and up or one fused projection"
            raise ValueError(msg)
        if project.switches.liger:
            return project(part.down, _liger(tape, project(part.gate, x), project(part.up, x)))
        bent = activation(tape, part.act, project(part.gate, x), project.switches.autocast)
        product = mul(tape, bent, project(part.up, x))
        del bent
        return project(part.down, product)


def _liger(tape: Tape, gate: Value, up: Value) -> Value:
    """Saves gate and up and writes their gradients over them (ops/swiglu.py)."""
    out = tape.new(gate.each, gate.dims)
    if not tape.needs(gate, up):
        return Value(out, gate.each, gate.dims)
    edges, saved = (gate.edge, up.edge), tape.save(gate, up)

    def backward(_: Buffer) -> Outcome:
        return (edges[0], saved[0].buffer), (edges[1], saved[1].buffer)

    return Value(out, gate.each, gate.dims, tape.node(backward, saved))


def plain_mlp(tape: Tape, part: PlainMlp, x: Value, project: Projector) -> Value:
    """`down(act(up(x)))`."""
    with tape.cause("MLP: inner activations"):
        return project(part.down, _bent(tape, part.act, project(part.up, x), project.switches))


def shared_expert(tape: Tape, part: GatedMlp | PlainMlp, x: Value, project: Projector) -> Value:
    """The expert that every token goes to, beside the chosen ones."""
    return gated(tape, part, x, project) if isinstance(part, GatedMlp) else plain_mlp(tape, part, x, project)


def _bent(tape: Tape, act: str, x: Value, switches: Switches) -> Value:
    return xielu(tape, x, switches) if act == "xielu" else activation(tape, act, x, switches.autocast)


def activation(tape: Tape, act: str, x: Value, autocast: int) -> Value:
    """SiLU, GELU (exact or tanh): one kernel, saves its input. ReLU saves its output. The rest is written out."""
    if act == "relu2":
        # torch.square is pow(2), which autocast runs in float32 (autocast_mode.h).
        x = unary(tape, x, saves="output")
        return square(tape, cast(tape, x, 4) if autocast else x)
    if act == "gelu_bloom":
        return _gelu_bloom(tape, x)
    if act == "gelu_new":
        return _gelu_new(tape, x, autocast)
    return unary(tape, x, saves="output" if act == "relu" else "input")


def _gelu_new(tape: Tape, x: Value, autocast: int) -> Value:
    """`0.5·x · (1 + tanh(√(2/π) · (x + 0.044715·x³)))`, operator by operator: keeps x, 0.5·x, tanh and 1 + tanh.

    Source: transformers 5.23 activations.py NewGELUActivation; the power runs in float32 under autocast.
    """
    half = unary(tape, x)
    cubed = square(tape, cast(tape, x, 4) if autocast else x)
    scaled = unary(tape, cubed)
    del cubed
    summed = add(tape, x, scaled)
    del scaled
    inner = unary(tape, summed)
    del summed
    bent = unary(tape, inner, saves="output")
    del inner
    shifted = shift(tape, bent)
    del bent
    return mul(tape, half, shifted)


def _gelu_bloom(tape: Tape, x: Value) -> Value:
    """BloomGelu: a function of its own that saves x alone and works the rest out again in its backward.

    Source: transformers 5.23 models/bloom/modeling_bloom.py bloom_gelu_forward and bloom_gelu_back.
    """
    edge_in, each, dims = x.edge, x.each, x.dims

    def fresh() -> Buffer:
        return tape.new(each, dims)

    def inner() -> Buffer:
        outer, cube = fresh(), fresh()
        cube = fresh()
        cube = fresh()
        out = fresh()
        del outer, cube
        return out

    def bent() -> Buffer:
        argument = inner()
        out = fresh()
        del argument
        return out

    def backward(_: Buffer) -> Outcome:
        tanh = bent()
        half, work = fresh(), fresh()
        work = fresh()
        other = fresh()
        other = fresh()
        other = fresh()
        work = fresh()
        other = half
        left = fresh()
        del half, work, other
        right = fresh()
        right = fresh()
        slope = fresh()
        del left, right
        grad = fresh()
        del tanh, slope
        return ((edge_in, grad),)

    saved = tape.save(x) if tape.needs(x) else None
    half = fresh()
    tanh = bent()
    shifted = fresh()
    del tanh
    out = fresh()
    del half, shifted
    return Value(out, each, dims, tape.node(backward, saved) if saved else None)
