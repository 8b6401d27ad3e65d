"""One training step, traced once per kind of model: forward, loss, backward, each kind of layer once.

Equal layers make equal events, so that a model of any depth is put together from these segments
(planner/step/engine/program.py).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from planner.families.parts import Structure
from planner.step.attention.standard import Shared
from planner.step.batch_tensors import JOINS_INPUTS, batch_tensors, tensors_of_loss
from planner.step.decoder_layer import RESIDUAL
from planner.step.embedding import embed
from planner.step.engine.graph import Graph, Shelf, Value
from planner.step.engine.offloading import Offloading
from planner.step.engine.ops import GRADIENTS
from planner.step.engine.program import Program, compiled
from planner.step.layer_kinds import called_with, some_keep_a_state, trace_layers
from planner.step.losses.full_logits import head_and_loss, start_backward
from planner.step.losses.fused import kept_outputs
from planner.step.norms import norm
from planner.step.passes import TRAINED
from planner.step.scoring_pass import score
from planner.step.switches import Switches


@lru_cache(maxsize=512)
def trace(structure: Structure, switches: Switches) -> Program:
    """The segments of one step of a model with one layer of each kind.

    Where nothing before the layers is trained, the first layers save less than their like (their input needs no
    gradient); they are traced beside them as kinds of their own, numbered after the last.
    """
    graph = Graph(keeps_gradients=switches.accumulates)
    if switches.accumulates:
        hold_gradients(graph, trace(structure, replace(switches, accumulates=False)))
    graph.mark("forward")
    if switches.offloads is not None:
        _offload(graph, structure, switches, dict(switches.offloads))
    ids = graph.hold(batch_tensors(graph, switches))
    number = switches.passes.index(TRAINED)
    scores = graph.hold([score(graph, structure, switches, before, ids) for before in range(number)])
    if scores:
        graph.mark("forward")
    own = graph.hold(tensors_of_loss(graph, switches))
    tokens = own[0] if switches.objective in JOINS_INPUTS else None
    x, named, shared, positions = graph.hold(embed(graph, structure, switches, ids, tokens))
    released = Shelf()
    graph.release_backward(released)
    graph.mark_backward("backward")
    if positions and not structure.hands_on_positions:
        named, positions = (*named, positions), None
    held = (*shared.held, positions) if positions else shared.held
    outside, graph.casts = graph.casts, {}
    x, leading = graph.hold(trace_layers(graph, structure, switches, graph.move(x), replace(shared, held=held)))
    graph.casts.update(outside)
    graph.mark("forward")
    # Where layers make the gradient that they hand on, the first to take one takes what the final norm made.
    makes = any(block.scaled_output for block in structure.blocks)
    if structure.final_norm:
        x = graph.replace(x, norm(graph, structure.final_norm, x, switches, RESIDUAL if makes else "norms"))
    graph.outputs.clear()
    graph.release(named)
    released.put(_saved_by_layers(graph, shared, first_saves=leading <= 1))
    if switches.checkpointing:
        released.put((_called_until_the_end(structure, switches, shared), positions))
    graph.release(shared, positions)
    loss, kept = graph.hold(head_and_loss(graph, structure, switches, graph.move(x)))
    outputs = graph.hold(kept_outputs(graph, switches))
    later = range(number + 1, len(switches.passes))
    scores += graph.hold([score(graph, structure, switches, after, ids) for after in later])
    if switches.objective != "grpo":  # whose scores belong to the buffered batch, and stay with it
        graph.release(*scores)
        scores = []
    graph.release(outputs, own)
    graph.mark("backward")
    start_backward(graph, loss)
    if graph.offloading is not None:
        graph.offloading.end()
    _leave_graph(graph)
    graph.release(loss, kept, scores, ids)
    graph.check_all_freed(graph.offloading.left.buffers() if graph.offloading else ())
    return compiled(graph, leading=leading)


def _offload(graph: Graph, structure: Structure, switches: Switches, small: Mapping[str, int]) -> None:
    """Enter TRL's context for offloading, which keeps what the step before left."""
    graph.offloading = Offloading(graph, small, GRADIENTS)
    if not switches.trains_embedding:
        graph.offloading.begin(*[(switches.held(structure.embedding), ("T", "h"))] * 2)


def _leave_graph(graph: Graph) -> None:
    """The end of the graph, and of what its functions kept, each layer's own."""
    graph.mark("backward")
    if any(graph.layer_kept_with_graph.values()):
        for kind, kept in sorted(graph.layer_kept_with_graph.items()):
            graph.mark(f"backward {kind}")
            kept.clear()
        graph.mark("backward")


def hold_gradients(graph: Graph, program: Program) -> None:
    """With accumulation, the gradients of earlier micro-batches are there from the start and are added to.

    Liger makes that of the head while it works out the loss; the others are made in the backward pass.
    """
    after_forward = [segment for segment in program.segments if segment.phase != "forward"]
    # A segment may begin while a gradient is made in another dtype first, which the next one frees.
    left: dict[int | None, Counter[int]] = {}
    for segment in after_forward:
        left.setdefault(segment.kind, Counter()).update(dict(segment.net))
    # In the order in which they are made, as cards of their own may hold them (planner/step/over_cards/play.py).
    for segment in after_forward:
        graph.mark("forward" if segment.kind is None else f"forward {segment.kind}")
        for key, count in segment.net:
            tag, size = program.keys[key]
            if tag == GRADIENTS:
                for _ in range(min(count, left[segment.kind][key])):
                    left[segment.kind][key] -= 1
                    graph.collect(graph.new(size.num, size.dims, tag, size.den))


def _called_until_the_end(structure: Structure, switches: Switches, shared: Shared) -> list[Shared]:
    """What layers were called with, where checkpoints hold it until the backward pass is over.

    A checkpoint that is not reentrant lets go when its layer is done, of which the first is the last. The function that
    a reentrant one calls again, with all keywords, is an attribute of its node, and goes with the graph
    (transformers/modeling_layers.py; torch/utils/checkpoint.py, CheckpointFunction.forward).
    """
    if switches.reentrant:
        kinds = zip(structure.blocks, switches.layers, strict=False)
        return [called_with(block, shared, masked=layer.masked) for block, layer in kinds]
    masked = switches.layers[0].masked and not some_keep_a_state(structure)
    return [called_with(structure.blocks[0], shared, masked=masked)]


def _saved_by_layers(graph: Graph, shared: Shared, *, first_saves: bool) -> tuple[Value, ...]:
    """Tables and masks that some layer saved: they go with the last layer, which only one stretch of the step is.

    Where the first layer saves none, they would go in a stretch that stands for many layers, once for each.
    """
    held = {id(holder.buffer) for node in graph.nodes if isinstance(node, tuple) for holder in node[2]}
    full = () if first_saves else (*(shared.full_tables or ()), shared.full_mask)
    found = filter(None, (*(shared.tables or ()), shared.mask, *full))
    return tuple(value for value in found if id(value.buffer) in held)
