"""Gemma 4's layer inputs: a second embedding of the tokens beside a projection of the first, a share for each layer.

Source: transformers 5.23 models/gemma4/modeling_gemma4.py, Gemma4TextModel.project_per_layer_inputs and
Gemma4TextDecoderLayer.forward. All shares are one tensor of L·P columns; its gradient is filled once per layer.
"""

from planner.families.parts import LayerInput, LayerInputs
from planner.step.engine.graph import Edge, Graph, Value, framed
from planner.step.engine.ops import add, embedding_gradient, mul, unary, view
from planner.step.engine.slice_ops import piece
from planner.step.feed_forward.mlp import activation
from planner.step.norms import norm
from planner.step.projections.linear import Projector

INPUTS_OF_LAYERS = "layer inputs (per-layer embeddings)"


@framed
def layer_inputs(graph: Graph, part: LayerInputs, x: Value, project: Projector) -> Value:
    """`(norm(projection(x) · scale) + embedding(ids) · scale) · scale`."""
    each, dims = project.switches.residual, ("T", "L·P")
    with graph.cause(INPUTS_OF_LAYERS):
        own = graph.hold(unary(graph, Value(graph.new(each, dims), each, dims, _embedding(graph, project))))
        projected = unary(graph, project(part.projection, x))
        projected = graph.replace(projected, norm(graph, part.norm, view(projected, ("T", "L", "P")), project.switches))
        summed = add(graph, view(projected, dims), own)
        return unary(graph, summed)


def _embedding(graph: Graph, project: Projector) -> Edge | None:
    """A trained embedding makes a dense gradient of its own size."""
    if not project.switches.trains_base:
        return None
    each = project.switches.residual
    dims = ("V of inputs", "L·P")
    return graph.node(lambda _: ((Edge(leaf=True), embedding_gradient(graph, each, dims, "input rows")),))


@framed
def share(graph: Graph, inputs: Value | None) -> Value | None:
    """`per_layer_inputs[:, :, i]`, taken outside the layer's checkpoint."""
    return None if inputs is None else piece(graph, inputs, ("T", "P"))


@framed
def with_layer_input(graph: Graph, part: LayerInput, x: Value, project: Projector, own: Value) -> Value:
    """`x + norm(projection(act(gate(x)) · own))`."""
    with graph.cause(INPUTS_OF_LAYERS):
        out = project(part.gate, x)
        out = activation(graph, part.act, out, project.switches.autocast)
        out = mul(graph, out, own)
        out = project(part.projection, out)
        out = norm(graph, part.norm, out, project.switches)
        return add(graph, x, out)
