"""A forward without gradients: what a reference model makes, and how much of it stays."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from planner.families.parts import Structure
from planner.step.decoder_layer import RESIDUAL
from planner.step.embedding import embed
from planner.step.engine.graph import Buffer, Edge, Graph
from planner.step.layer_kinds import walk_layers
from planner.step.losses.full_logits import leave_autocast
from planner.step.losses.fused import log_probabilities
from planner.step.norms import norm
from planner.step.passes import Pass
from planner.step.switches import LayerSwitches, Switches


def score(graph: Graph, structure: Structure, switches: Switches, ids: list[Buffer]) -> Buffer:
    """Run a model over the batch; what is left are per-token log-probabilities.

    `switches` are those of the pass (`switches_of_pass`), `ids` what the collator handed over.
    """
    with _without_gradients(graph):
        graph.mark("forward")
        x, named, shared, positions = embed(graph, structure, switches, ids)
        outside, graph.casts = graph.casts, {}
        entering = [x]
        del x
        x, _ = walk_layers(graph, structure, switches, entering, shared)
        graph.casts.update(outside)
        graph.mark("forward")
        x = norm(graph, structure.final_norm, x, switches, RESIDUAL) if structure.final_norm else x
        graph.outputs.clear()
        del named, shared, positions, outside
        graph.mark("loss")
        scores = log_probabilities(graph, switches, x)
        del x
        leave_autocast(graph)
    return scores


@contextmanager
def _without_gradients(graph: Graph) -> Iterator[None]:
    """`torch.no_grad()`: no node is recorded, and what the graph knows of the trained pass is as it was."""
    nodes, head, leaf = len(graph.nodes), graph.head, graph.leaf_input
    casts, kept = graph.layer_casts, graph.layer_kept_with_graph
    graph.recording, graph.layer_casts, graph.layer_kept_with_graph, graph.head = False, {}, {}, Edge(leaf=True)
    try:
        yield
    finally:
        del graph.nodes[nodes:]
        graph.recording, graph.head, graph.leaf_input = True, head, leaf
        graph.layer_casts, graph.layer_kept_with_graph = casts, kept


def switches_of_pass(switches: Switches, one: Pass) -> Switches:
    """The switches that a pass without gradients runs with.

    A second model was never prepared by peft, so that its norms and embeddings are as wide as it was loaded.
    """
    leading = switches.leading_kinds
    if one.weights == "trained":
        return replace(switches, checkpointing=False, leading=leading)
    layers = tuple(_without_adapters(layer) for layer in switches.layers)
    return replace(
        switches,
        layers=layers,
        outside=replace(switches.outside, adapters=frozenset()),
        has_adapters=False,
        dropout=False,
        dora=False,
        checkpointing=False,
        leading=leading,
        residual=switches.model if one.weights == "copy" else switches.residual,
    )


def _without_adapters(layer: LayerSwitches) -> LayerSwitches:
    return replace(layer, adapters=frozenset())
