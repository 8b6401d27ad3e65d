"""Gemma 4's layer inputs: a second embedding of the tokens beside a projection of the first, a share for each layer.

Source: transformers 5.23 models/gemma4/modeling_gemma4.py, Gemma4TextModel.project_per_layer_inputs and
Gemma4TextDecoderLayer.forward. All shares are one tensor of L·P columns; its gradient is filled once per layer.
"""

from planner.families.parts import LayerInput, LayerInputs
from planner.timeline.mlps import activation
from planner.timeline.norms import norm
from planner.timeline.ops import add, embedding_gradient, mul, unary, view
from planner.timeline.pieces import piece
from planner.timeline.projections import Projector
from planner.timeline.tape import Edge, Tape, Value

INPUTS_OF_LAYERS = "layer inputs (per-layer embeddings)"


def layer_inputs(tape: Tape, part: LayerInputs, x: Value, project: Projector) -> Value:
    """`(norm(projection(x) · scale) + embedding(ids) · scale) · scale`."""
    each, dims = project.switches.residual, ("T", "L·P")
    with tape.cause(INPUTS_OF_LAYERS):
        own = unary(tape, Value(tape.new(each, dims), each, dims, _embedding(tape, project)))
        projected = unary(tape, project(part.projection, x))
        projected = norm(tape, part.norm, view(projected, ("T", "L", "P")), project.switches)
        summed = add(tape, view(projected, dims), own)
        return unary(tape, summed)


def _embedding(tape: Tape, project: Projector) -> Edge | None:
    """A trained embedding makes a dense gradient of its own size."""
    if not project.switches.trains_base:
        return None
    each = project.switches.residual
    dims = ("V of inputs", "L·P")
    return tape.node(lambda _: ((Edge(leaf=True), embedding_gradient(tape, each, dims, "input rows")),))


def share(tape: Tape, inputs: Value | None) -> Value | None:
    """`per_layer_inputs[:, :, i]`, taken outside the layer's checkpoint."""
    return None if inputs is None else piece(tape, inputs, ("T", "P"))


def with_layer_input(tape: Tape, part: LayerInput, x: Value, project: Projector, own: Value) -> Value:
    """`x + norm(projection(act(gate(x)) · own))`."""
    with tape.cause(INPUTS_OF_LAYERS):
        out = project(part.gate, x)
        out = activation(tape, part.act, out, project.switches.autocast)
        out = mul(tape, out, own)
        out = project(part.projection, out)
        out = norm(tape, part.norm, out, project.switches)
        return add(tape, x, out)
