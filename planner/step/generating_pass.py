"""A forward of `generate`: the prompt read at once, or one token more, with logits of the last token alone.

Source: transformers 5.23 generation/utils.py, _prefill, _sample and (logits_to_keep) prepare_inputs_for_generation.
"""

from dataclasses import replace
from functools import lru_cache

from planner.families.parts import Structure
from planner.step.attention.kv_cache import KeyValueCache
from planner.step.decoder_layer import RESIDUAL
from planner.step.embedding import INPUTS, embed
from planner.step.engine.graph import Graph, Value
from planner.step.engine.ops import cast, unary
from planner.step.engine.program import Program, compiled
from planner.step.layer_kinds import walk_layers
from planner.step.losses.full_logits import FLOAT_LOGITS, LOGITS
from planner.step.norms import norm
from planner.step.projections.linear import plain
from planner.step.switches import Switches

# The mark of a forward's last part; the walk's other phase is "forward".
HEAD = "loss"


@lru_cache(maxsize=512)
def walk_generation(structure: Structure, switches: Switches, *, decoding: bool) -> Program:
    """The segments of one forward without gradients, one layer of each kind; what is left is the layers' cache."""
    switches = replace(switches, gathers_experts=decoding)
    graph = Graph()
    graph.recording = False
    cache = KeyValueCache(decoding=decoding)
    graph.mark("forward")
    with graph.cause(INPUTS):
        ids = [graph.new(8, ("batch",)) for _ in ("input_ids", "attention_mask", "position_ids")]
    scores = graph.new(4, ("b", "V"), FLOAT_LOGITS) if decoding else None
    x, named, shared, positions = embed(graph, structure, switches, ids)
    entering = [x]
    del x
    x, leading = walk_layers(graph, structure, switches, entering, replace(shared, cache=cache))
    graph.mark("forward")
    x = norm(graph, structure.final_norm, x, switches, RESIDUAL) if structure.final_norm else x
    graph.outputs.clear()
    graph.mark(HEAD)
    logits = _logits(graph, structure, switches, x)
    del x, named, shared, positions
    with graph.cause(FLOAT_LOGITS):
        chosen = graph.new(4, ("b", "V"))
    del logits, scores, chosen, ids
    graph.mark(HEAD)
    return compiled(graph, leading=leading)


def _logits(graph: Graph, structure: Structure, switches: Switches, x: Value) -> Value:
    """The head over each sequence's last hidden state."""
    with graph.cause(LOGITS):
        logits = plain(graph, switches, structure.head, Value(x.buffer, x.each, ("b", "h")))
        if structure.logits_scaled:
            logits = unary(graph, logits)
        if structure.logits_softcap:
            logits = unary(graph, unary(graph, unary(graph, logits)))
        if structure.logits_float:
            logits = cast(graph, logits, 4)
    return logits
