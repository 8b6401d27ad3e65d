"""One training step of Unsloth, traced once: the first layer, those between, and the last.

Source: unsloth 2026.10.9 models/llama.py (LlamaModel_fast_forward, CausalLM_fast_forward), unsloth_zoo 2026.10.9
gradient_checkpointing.py. The model holds the first layer's input; the last layer's is never offloaded.
"""

from dataclasses import replace
from functools import lru_cache

from planner.families.parts import Structure
from planner.step.batch_tensors import INPUTS, batch_tensors
from planner.step.decoder_layer import RESIDUAL
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import unary
from planner.step.engine.program import Program, compiled
from planner.step.losses.full_logits import leave_autocast, start_backward
from planner.step.losses.fused import SCORES
from planner.step.projections.linear import Projector
from planner.step.switches import Switches
from planner.step.trace import hold_gradients
from planner.step.unsloth.kernels import norm
from planner.step.unsloth.layer import block
from planner.step.unsloth.loss import fused_cross_entropy
from planner.units import ALLOCATION_GRANULE_BYTES

# Kinds of layers: those between are of the model's only kind, numbered 0.
BETWEEN, FIRST, LAST = 0, 1, 2


@lru_cache(maxsize=512)
def trace_unsloth(structure: Structure, switches: Switches) -> Program:
    """The segments of one step."""
    graph = Graph(keeps_gradients=switches.accumulates)
    if switches.accumulates:
        hold_gradients(graph, trace_unsloth(structure, replace(switches, accumulates=False)))
    graph.mark("forward")
    ids = graph.hold(batch_tensors(graph, switches))
    x = graph.hold(_embedded(graph, structure, switches))
    graph.mark_backward("backward")
    with graph.cause(INPUTS):
        # Positions, which the rotary embeddings read again backward; of each micro-batch its sequences' lengths; where
        # they begin, and how many tokens count.
        read = graph.hold([graph.new(4, ("T",)), graph.new(ALLOCATION_GRANULE_BYTES, ("micro-batches",))])
        read += graph.hold([graph.new(4, ("b",)), graph.new(4, ())])
    # The embedded tokens are a leaf, which the graph holds to its end.
    leaf = graph.hold(x)
    for kind in (FIRST, BETWEEN, LAST):
        graph.mark(f"forward {kind}")
        x = graph.replace(x, _layer(graph, structure, switches, x, kind))
        graph.layer_casts[kind], graph.casts = graph.casts, {}
        graph.mark_backward(f"backward {kind}")
    graph.mark("forward")
    final = structure.final_norm
    x = graph.replace(x, norm(graph, x, overwrites=final is not None and final.kind == "rms", cause=RESIDUAL))
    graph.mark("loss")
    loss = graph.hold(fused_cross_entropy(graph, switches, graph.move(x)))
    leave_autocast(graph)
    graph.mark("backward")
    with graph.cause(SCORES):
        divided = graph.hold(unary(graph, loss))  # by accelerate, be it by one
    start_backward(graph, divided)
    graph.mark("backward")
    graph.release(loss, divided, leaf, read, ids)
    graph.check_all_freed()
    return compiled(graph, leading=1, last=LAST)


def _embedded(graph: Graph, structure: Structure, switches: Switches) -> Value:
    """Embedded tokens, which require a gradient, checkpointed or not; Gemma's are scaled before."""
    with graph.cause(RESIDUAL):
        embedded = graph.new(switches.model, ("T", "h"))
        if structure.embedding_scaled:
            scaled = graph.new(switches.model, ("T", "h"))
            graph.release(embedded)
            embedded = scaled
        return Value(embedded, switches.model, ("T", "h"), graph.node(lambda _: ()))


@framed
def _layer(graph: Graph, structure: Structure, switches: Switches, x: Value, kind: int) -> Value:
    part, layer = structure.blocks[0], switches.layers[0]

    def run(entering: Value) -> Value:
        return block(graph, part, entering, Projector(graph, switches, layer))

    if not switches.checkpointing:
        return run(x)
    waits = bool(switches.unsloth and switches.unsloth.offloads) and kind != LAST
    return graph.checkpoint_reentrant(run, x, (), offloads=waits)
