"""Every kind of layer traced once, forward, and where the backward pass comes back to it."""

from dataclasses import replace

from planner.families.parts import Attention, Block, Latent, Structure
from planner.step.attention.standard import Shared
from planner.step.decoder_layer import block
from planner.step.engine.graph import Graph, Shelf, Value, framed
from planner.step.gemma4_layer_inputs import share
from planner.step.projections.adapters import EMBEDDED
from planner.step.projections.linear import Projector
from planner.step.switches import Switches


@framed
def trace_layers(graph: Graph, structure: Structure, switches: Switches, x: Value, shared: Shared) -> tuple[Value, int]:
    """Every kind of layer once, after the first layers; how many kinds those are of, none where they are like theirs.

    The first layer is a kind of its own, because the model holds its input; each later one up to the first that trains
    something is of one too. In a step of several passes it always is, as it is in one without gradients.
    """
    kinds, before = len(structure.blocks), x.each

    def layer(x: Value, part: int) -> Value:
        return _layer(graph, structure.blocks[part], x, Projector(graph, switches, switches.layers[part]), shared)

    graph.mark("forward")
    x = graph.replace(x, layer(x, 0))
    # The projection for layer inputs saves the embedded tokens, so that they do not go with the first layer.
    goes = structure.layer_inputs is None
    # What only the first leaves behind: outputs that stay until the second layer's are there (every later layer's
    # take the place of the one's before), and a cast of the embedded tokens.
    leaves = graph.outputs or EMBEDDED in graph.casts
    alike = switches.checkpointing and len(switches.passes) == 1 and x.each == before and goes and not leaves
    # Where something is offloaded, each place that is unlike others has a kind already.
    alike = alike or bool(structure.blocks[0].once) or graph.offloading is not None
    leading, first = (0, 0) if alike else (switches.leading_kinds, kinds)
    graph.marks[-1] = (f"forward {first}", graph.marks[-1][1])
    _leave_layer(graph, first)
    others = [(part, kinds + 1 + part) for part in range(leading - 1)] + [(kind, kind) for kind in range(kinds)]
    for part, kind in others[1:] if alike else others:
        graph.mark(f"forward {kind}")
        x = graph.replace(x, layer(x, part))
        _leave_layer(graph, kind)
    return x, leading


def _leave_layer(graph: Graph, kind: int) -> None:
    """Set the casts that autocast keeps apart by kind, and mark where the backward pass comes back to it."""
    graph.layer_casts[kind], graph.casts = graph.casts, {}
    graph.layer_kept_with_graph[kind], graph.kept_with_graph = graph.kept_with_graph, Shelf()
    graph.mark_backward(f"backward {kind}")


@framed
def _layer(graph: Graph, part: Block, x: Value, project: Projector, shared: Shared) -> Value:
    own = called_with(part, shared, masked=project.layer.masked)
    if own.layer_inputs:
        own = replace(own, layer_input=share(graph, own.layer_inputs))

    def run(entering: Value) -> Value:
        return block(graph, part, entering, project, own)

    if not project.switches.checkpointing:
        return run(x)
    if project.switches.reentrant:
        return graph.checkpoint_reentrant(run, x, own)
    return graph.checkpoint(run, x, own)


def called_with(part: Block, shared: Shared, *, masked: bool) -> Shared:
    """What this layer is called with: tables for its heads, a mask for its reach, if any."""
    window = part.attention is not None and part.attention.window
    tables = shared.tables if window or shared.full_tables is None else shared.full_tables
    mask = shared.mask if window or shared.full_mask is None else shared.full_mask
    return replace(
        shared, tables=tables, full_tables=None, mask=mask if masked and _attends(part) else None, full_mask=None
    )


def some_keep_a_state(structure: Structure) -> bool:
    """Whether some layer is called without the mask."""
    return not all(_attends(block) for block in structure.blocks)


def _attends(block: Block) -> bool:
    """Whether the layer is called with the mask."""
    return isinstance(block.attention, Attention | Latent)
