"""Liger's experts: gate, up, their product and down in two kernels.

Source: liger-kernel 0.8.5 ops/fused_moe.py, LigerFusedMoEFunction, which its patches of Mixtral, Qwen 3 MoE and
DeepSeek put in place of the model's experts (transformers/swiglu.py, LigerExperts). It saves one product per pair and
makes the gradients of all experts, wanted or not.
"""

from planner.families.parts import Experts
from planner.timeline.ops import GRADIENTS
from planner.timeline.projections import Projector
from planner.timeline.routers import Routing
from planner.timeline.stacked import FOLDED, expert_weight, factors_of
from planner.timeline.tape import Buffer, Outcome, Tape, Value

_PAIRS = ("T", "top")


def liger_experts(tape: Tape, part: Experts, x: Value, routing: Routing, project: Projector) -> Value:
    """`LigerExperts.forward`."""
    down_factors = factors_of(tape, project, part.down, "r")
    up_factors = factors_of(tape, project, part.up, "2r")
    ids = tape.new(4, _PAIRS)
    up = expert_weight(tape, project, part.up, up_factors)
    down = expert_weight(tape, project, part.down, down_factors)
    places = [tape.new(4, _PAIRS) for _ in range(3)]
    each, inputs = x.each, (x, up, down)
    product = tape.new(each, (*_PAIRS, "2J"))
    work = tape.new(each, (*_PAIRS, "J")), tape.new(each, (*_PAIRS, "h"))
    out = tape.new(each, ("T", "h"))
    if not tape.needs(*inputs, routing.weights):
        return Value(out, each, ("T", "h"))
    edges = (x.edge, up.edge, down.edge, routing.weights.edge)
    own, shapes = routing.weights.each, (up.dims, down.dims)
    tags = [GRADIENTS if edge and edge.leaf else f"{FOLDED} (gradients)" for edge in edges[1:3]]

    def backward(_: Buffer) -> Outcome:
        product = tape.new(each, (*_PAIRS, "2J"))
        weighted = tape.new(each, (*_PAIRS, "J"))
        to_down = tape.new(each, shapes[1], tags[1])
        rows = tape.new(each, (*_PAIRS, "h"))
        to_x = tape.new(each, ("T", "h"))
        to_up = tape.new(each, shapes[0], tags[0])
        del product, weighted, rows
        return (edges[0], to_x), (edges[1], to_up), (edges[2], to_down), (edges[3], tape.new(own, _PAIRS))

    saved = tape.save(*inputs, product, routing.weights, *places)
    del work, ids, up_factors, down_factors
    return Value(out, each, ("T", "h"), tape.node(backward, saved))
