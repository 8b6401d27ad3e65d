"""A forward without gradients: what a reference model makes, and how much of it stays."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from planner.families.parts import Structure
from planner.step.batch_tensors import INPUTS
from planner.step.decoder_layer import RESIDUAL
from planner.step.embedding import embed
from planner.step.engine.graph import Buffer, Edge, Graph, framed
from planner.step.layer_kinds import trace_layers
from planner.step.losses.full_logits import leave_autocast
from planner.step.losses.fused import SCORES, Output, log_probabilities, outputs_of
from planner.step.norms import norm
from planner.step.passes import Pass, estimates_kl
from planner.step.switches import Copies, LayerSwitches, Switches


@framed
def score(graph: Graph, structure: Structure, switches: Switches, number: int, ids: list[Buffer]) -> Buffer:
    """Run the pass of this number over the batch; what is left are per-token log-probabilities, and of KTO's estimate
    of how far the models are apart one for each sequence. GRPO scores all that it generated at once.

    `ids` is what the collator handed over.
    """
    one = switches.passes[number]
    own, outputs = switches_of_pass(switches, one), outputs_of(switches.objective, one)
    if not estimates_kl(switches.objective, number):
        scores = graph.hold(_score(graph, structure, own, ids, outputs))
        if switches.objective != "grpo":
            return scores
        with graph.cause(SCORES):  # torch.cat of the completions' part, of all that were generated
            return graph.new(4, ("completions",))
    with graph.cause(INPUTS):
        graph.hold(graph.new(8, ("T",)))  # labels
    graph.hold(_score(graph, structure, own, ids, outputs))
    with graph.cause(SCORES):
        return graph.new(4, ("b",))


@framed
def _score(
    graph: Graph, structure: Structure, switches: Switches, ids: list[Buffer], outputs: frozenset[Output]
) -> Buffer:
    with _without_gradients(graph):
        graph.mark("forward")
        x, named, shared, positions = graph.hold(embed(graph, structure, switches, ids))
        outside, graph.casts = graph.casts, {}
        x, _ = graph.hold(trace_layers(graph, structure, switches, graph.move(x), shared))
        graph.casts.update(outside)
        graph.mark("forward")
        if structure.final_norm:
            x = graph.replace(x, norm(graph, structure.final_norm, x, switches, RESIDUAL))
        graph.outputs.clear()
        graph.release(named, shared, positions)
        graph.mark("loss")
        scores = graph.hold(log_probabilities(graph, switches, x, outputs))
        graph.release(x)
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
        copies=Copies(),
        biases="none",
        trains_tokens=False,
        merges_head=False,
        has_adapters=False,
        dropout=False,
        dora=False,
        checkpointing=False,
        leading=leading,
        residual=switches.model if one.weights == "copy" else switches.residual,
    )


def _without_adapters(layer: LayerSwitches) -> LayerSwitches:
    return replace(layer, adapters=frozenset())
