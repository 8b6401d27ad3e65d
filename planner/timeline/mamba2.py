"""Mamba 2 layers (Granite 4 H, Nemotron-H): a projection, a short convolution, a state-space scan, a gated norm.

Source: transformers 5.23 models/{granitemoehybrid,nemotron_h}/modeling_*.py, the mixer of each, in plain torch.
"""

from planner.families.parts import Mamba2
from planner.timeline.convolution import convolved
from planner.timeline.mamba2_scan import Inputs, chunk_scan
from planner.timeline.norms import inverse_root_of, mean, mul_rows, scale_by_weight
from planner.timeline.ops import cast, mul, parameter, square, unary, view
from planner.timeline.pieces import split
from planner.timeline.projections import Projector
from planner.timeline.tape import Tape, Value

MIXER = "state-space layers: projections, convolution, gate"


def mamba2(tape: Tape, part: Mamba2, x: Value, project: Projector) -> Value:
    """The mixer of `x`. Names live as long as those of the code this follows."""
    switches, before = project.switches, x.each
    with tape.cause(MIXER):
        if switches.padded:
            x = unary(tape, x)  # padding is multiplied away
        projected = project(part.in_, x)
        rate = _rate(tape, project)
        gate, mixed, dt = split(tape, projected, (("T", "value"), ("T", "conv"), ("T", "Hm")))
        mixed = convolved(tape, mixed, project, bias=part.conv_bias)
        if switches.padded:
            mixed = unary(tape, mixed)
        hidden, b, c = split(tape, mixed, (("T", "value"), ("T", "G", "n"), ("T", "G", "n")))
        del x
        inputs = Inputs(view(hidden, ("T", "Hm", "dp")), dt, rate, b, c)
        scanned = chunk_scan(tape, inputs, switches)
        out = _gated_norm(tape, scanned, gate, project)
        result = project(part.out, cast(tape, out, before))
        del mixed, hidden, b, c, dt, rate, inputs, scanned, out, gate, projected
        return result


def _rate(tape: Tape, project: Projector) -> Value:
    """`-exp(A_log.float())`, a number per head."""
    trained = project.switches.trains_base
    rate = cast(tape, parameter(project.switches.residual, ("Hm",), trained=trained), 4)
    return unary(tape, unary(tape, rate, saves="output"))


def _gated_norm(tape: Tape, x: Value, gate: Value, project: Projector) -> Value:
    """`weight * norm(x * silu(gate.float()))`, a norm for each group of heads; nothing is cast back."""
    weight = parameter(project.switches.residual, ("value",), trained=project.switches.trains_base)
    with tape.cause("norms"):
        x = mul(tape, view(x, ("T", "value")), unary(tape, cast(tape, gate, 4), saves="input"))
        grouped = view(x, ("T", "G", "group"))
        variance = mean(tape, square(tape, grouped))
        scaled = mul_rows(tape, grouped, inverse_root_of(tape, variance))
        del x, grouped
        out = scale_by_weight(tape, view(scaled, ("T", "value")), weight)
        del variance, scaled
        return out
