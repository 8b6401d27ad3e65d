"""A forward of `generate`: the prompt read at once, or one token more, with logits of the last token alone.

Source: transformers 5.23 generation/utils.py, _prefill, _sample and (logits_to_keep) prepare_inputs_for_generation.
"""

from dataclasses import replace
from functools import lru_cache

from planner.families.parts import Structure
from planner.step.attention.kv_cache import KeyValueCache
from planner.step.decoder_layer import RESIDUAL
from planner.step.embedding import INPUTS, embed
from planner.step.engine.graph import Buffer, Graph, Value
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
def walk_generation(
    structure: Structure, switches: Switches, *, decoding: bool, sampled: bool = False
) -> Program:
    """The segments of one forward without gradients, one layer of each kind; what is left is the layers' cache.

    `sampled`: the next token is drawn. What the loop of `_sample` names stays until the next token has the same.
    """
    # Position ids are counted up along each sequence's mask (_prepare_position_ids_for_generation).
    structure = replace(structure, rotary_each=True, positions_each=True)
    switches = replace(switches, gathers_experts=decoding)
    graph = Graph()
    graph.recording = False
    cache = KeyValueCache(decoding=decoding)
    graph.mark("forward")
    with graph.cause(INPUTS):
        ids = [graph.new(8, ("batch",)) for _ in ("input_ids", "attention_mask", "position_ids")]
        # _prepare_special_tokens: as tensors of one token each; _sample: which sequences go on.
        ids += [graph.new(8, ()) for _ in ("bos_token_id", "eos_token_id", "pad_token_id")]
        ids.append(graph.new(8, ("b",)))
    scores = graph.new(4, ("b", "V"), FLOAT_LOGITS) if decoding else None
    probabilities = graph.new(4, ("b", "V"), FLOAT_LOGITS) if decoding and sampled else None
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
        if sampled and switches.autocast:  # accelerate hands outputs back in float32
            logits = cast(graph, logits, 4)
        chosen = graph.new(4, ("b", "V"))
        del scores
        if sampled:
            _draw(graph, probabilities)
    del logits, chosen, ids, probabilities
    graph.mark(HEAD)
    return compiled(graph, leading=leading)


def _draw(graph: Graph, before: Buffer | None) -> None:
    """`multinomial(softmax(scores))`: the probabilities beside the last token's, then as many exponential numbers."""
    probabilities = graph.new(4, ("b", "V"))
    del before
    exponential = graph.new(4, ("b", "V"))
    del probabilities, exponential


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
