"""The short convolution of linear attention and of state-space layers: a filter per channel, and SiLU.

Source: transformers 5.23 models/{qwen3_next,granitemoehybrid}/modeling_*.py, causal_conv1d_fn in plain torch.
"""

from planner.timeline.ops import GRADIENTS, cast, parameter, unary
from planner.timeline.pieces import piece
from planner.timeline.projections import Projector
from planner.timeline.tape import Buffer, Dims, Edge, Outcome, Tape, Value

_CONV: Dims = ("T conv", "conv")


def convolved(tape: Tape, x: Value, project: Projector, *, bias: bool = False) -> Value:
    """`silu(conv1d(x))`; the filter's output is longer than the sequence by the filter less one."""
    switches, before = project.switches, x.each
    weight = parameter(switches.residual, ("conv", "conv kernel"), trained=switches.trains_base)
    x = cast(tape, x, weight.each)
    if switches.autocast:
        weight = cast(tape, weight, switches.autocast)
        x = cast(tape, x, switches.autocast)
    x = _filtered(tape, x, weight, bias=bias and switches.trains_base)
    x = piece(tape, x, ("T", "conv"))
    return cast(tape, unary(tape, x, saves="input"), before)


def _filtered(tape: Tape, x: Value, weight: Value, *, bias: bool) -> Value:
    """`bias`: it is trained, and gets a gradient of its own."""
    edges, each, dims, shape = (x.edge, weight.edge), x.each, x.dims, weight.dims
    if not tape.needs(x, weight):
        return Value(tape.new(each, _CONV), each, _CONV)

    def backward(_: Buffer) -> Outcome:
        to_x = tape.new(each, dims) if edges[0] else None
        to_weight = tape.new(each, shape, GRADIENTS) if edges[1] else None
        to_bias = (Edge(leaf=True), tape.new(each, shape[:1], GRADIENTS)) if bias else (None, None)
        return (edges[0], to_x), (edges[1], to_weight), to_bias

    edge = tape.node(backward, tape.save(x, weight))
    return Value(tape.new(each, _CONV), each, _CONV, edge)
