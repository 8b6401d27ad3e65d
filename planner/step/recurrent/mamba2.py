"""Mamba 2 layers (Granite 4 H, Nemotron-H): a projection, a short convolution, a state-space scan, a gated norm.

Source: transformers 5.23 models/{granitemoehybrid,nemotron_h}/modeling_*.py, the mixer of each, in plain torch.
"""

from planner.families.mixers import Mamba2
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import cast, mul, parameter, square, unary, view
from planner.step.engine.slice_ops import split
from planner.step.norms import inverse_root_of, mean, mul_rows, scale_by_weight
from planner.step.projections.linear import Projector
from planner.step.recurrent.mamba2_scan import Inputs, chunk_scan
from planner.step.recurrent.short_convolution import convolved

MIXER = "state-space layers: projections, convolution, gate"


@framed
def mamba2(graph: Graph, part: Mamba2, x: Value, project: Projector) -> Value:
    """The mixer of `x`. Names live as long as those of the code this follows."""
    switches, before = project.switches, x.each
    with graph.cause(MIXER):
        if switches.padded:
            x = graph.replace(x, unary(graph, x))  # padding is multiplied away
        projected = project(part.in_, x)
        rate = _rate(graph, project)
        gate, mixed, dt = graph.hold(split(graph, projected, (("T", "value"), ("T", "conv"), ("T", "Hm"))))
        mixed = convolved(graph, mixed, project, bias=part.conv_bias)
        if switches.padded:
            mixed = unary(graph, mixed)
        hidden, b, c = split(graph, mixed, (("T", "value"), ("T", "G", "n"), ("T", "G", "n")))
        graph.release(x)
        inputs = graph.hold(Inputs(view(hidden, ("T", "Hm", "dp")), dt, rate, b, c))
        scanned = graph.hold(chunk_scan(graph, inputs, switches))
        out = graph.hold(_gated_norm(graph, scanned, gate, project))
        return project(part.out, cast(graph, out, before))


@framed
def _rate(graph: Graph, project: Projector) -> Value:
    """`-exp(A_log.float())`, a number per head."""
    trained = project.switches.trains_base
    rate = graph.hold(cast(graph, parameter(project.switches.residual, ("Hm",), trained=trained), 4))
    return unary(graph, unary(graph, rate, saves="output"))


@framed
def _gated_norm(graph: Graph, x: Value, gate: Value, project: Projector) -> Value:
    """`weight * norm(x * silu(gate.float()))`, a norm for each group of heads; nothing is cast back."""
    weight = parameter(project.switches.residual, ("value",), trained=project.switches.trains_base)
    with graph.cause("norms"):
        x = mul(graph, view(x, ("T", "value")), unary(graph, cast(graph, gate, 4), saves="input"))
        grouped = graph.hold(view(x, ("T", "G", "group")))
        variance = graph.hold(mean(graph, square(graph, grouped)))
        scaled = mul_rows(graph, grouped, inverse_root_of(graph, variance))
        graph.release(grouped)
        return scale_by_weight(graph, view(scaled, ("T", "value")), weight)
