"""The short convolution of linear attention and of state-space layers: a filter per channel, and SiLU.

Source: transformers 5.23 models/{qwen3_next,granitemoehybrid}/modeling_*.py, causal_conv1d_fn in plain torch.
"""

from planner.step.engine.graph import Buffer, Dims, Edge, Graph, Outcome, Value, framed
from planner.step.engine.ops import GRADIENTS, cast, parameter, unary
from planner.step.engine.slice_ops import piece
from planner.step.projections.linear import Projector

_CONV: Dims = ("T conv", "conv")


@framed
def convolved(graph: Graph, x: Value, project: Projector, *, bias: bool = False, activates: bool = True) -> Value:
    """`silu(conv1d(x))`; the filter's output is longer than the sequence by the filter less one.

    `activates`: with SiLU.
    """
    switches, before = project.switches, x.each
    weight = parameter(switches.residual, ("conv", "conv kernel"), trained=switches.trains_base)
    x = cast(graph, x, weight.each)
    if switches.autocast:
        weight = graph.hold(cast(graph, weight, switches.autocast))
        x = cast(graph, x, switches.autocast)
    x = graph.replace(x, filtered(graph, x, weight, _CONV, bias=bias and switches.trains_base))
    x = piece(graph, x, ("T", "conv"))
    return cast(graph, unary(graph, x, saves="input") if activates else x, before)


@framed
def filtered(graph: Graph, x: Value, weight: Value, out: Dims, *, bias: bool = False) -> Value:
    """`conv1d` of one filter per channel. `bias`: it is trained, and gets a gradient of its own.

    What it reads lies token by token and is copied channel by channel, forward and backward (conv_depthwise2d).
    """
    edges, each, dims, shape = (x.edge, weight.edge), x.each, x.dims, weight.dims
    if not graph.needs(x, weight):
        graph.hold(graph.new(each, dims))
        return Value(graph.new(each, out), each, out)

    def backward(_: Buffer) -> Outcome:
        to_x = graph.new(each, dims) if edges[0] else None
        to_weight = graph.new(each, shape, GRADIENTS) if edges[1] else None
        to_bias = (Edge(leaf=True), graph.new(each, shape[:1], GRADIENTS)) if bias else (None, None)
        graph.release(graph.new(each, dims))
        return (edges[0], to_x), (edges[1], to_weight), to_bias

    edge = graph.node(backward, graph.save(x, weight))
    graph.hold(graph.new(each, dims))
    return Value(graph.new(each, out), each, out, edge)
