"""Feed-forward parts: gated and plain.

Source: transformers 5.23 models/llama/modeling_llama.py LlamaMLP; activations.py.
"""

from planner.families.parts import GatedMlp, PlainMlp
from planner.timeline.ops import mul, unary
from planner.timeline.projections import Projector
from planner.timeline.tape import Tape, Value

MLP = "MLP: gate, up and their product"


def gated(tape: Tape, part: GatedMlp, x: Value, project: Projector) -> Value:
    """`down(act(gate(x)) * up(x))`: saves gate (for act), act's output and up (for the product)."""
    if not (part.gate and part.up):
        msg = "fused gate_up has no walk yet"
        raise NotImplementedError(msg)
    with tape.cause(MLP):
        product = mul(tape, activation(tape, part.act, project(part.gate, x)), project(part.up, x))
        return project(part.down, product)


def plain_mlp(tape: Tape, part: PlainMlp, x: Value, project: Projector) -> Value:
    """`down(act(up(x)))`."""
    with tape.cause("MLP: inner activations"):
        return project(part.down, activation(tape, part.act, project(part.up, x)))


def activation(tape: Tape, act: str, x: Value) -> Value:
    """SiLU, GELU (exact or tanh): one kernel, saves its input. ReLU saves its output."""
    return unary(tape, x, saves="output" if act in {"relu"} else "input")
