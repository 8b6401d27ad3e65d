"""Gated short convolutions (LFM2): a projection to two gates and what is convolved between them.

Source: transformers 5.23 models/lfm2/modeling_lfm2.py, Lfm2ShortConv, in plain torch.
"""

from planner.families.mixers import GatedConvolution
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import mul, unary, view
from planner.step.engine.slice_ops import split
from planner.step.projections.linear import Projector
from planner.step.recurrent.short_convolution import convolved

MIXER = "gated convolution: projections, convolution, gates"
_GATED = ("T", "conv")


@framed
def gated_convolution(graph: Graph, part: GatedConvolution, x: Value, project: Projector) -> Value:
    """`out_proj(C * conv(B * x))`. Names live as long as those of the code this follows."""
    with graph.cause(MIXER):
        if project.switches.padded:
            x = graph.replace(x, unary(graph, x))  # padding is multiplied away
        parts = graph.hold(split(graph, project(part.in_, x), (_GATED, _GATED, _GATED)))
        x = graph.replace(x, mul(graph, parts[0], parts[2]))
        x = graph.replace(x, convolved(graph, x, project, bias=part.conv_bias, activates=False))
        y = graph.hold(mul(graph, parts[1], x))
        return project(part.out, view(y, ("T", "h")))
