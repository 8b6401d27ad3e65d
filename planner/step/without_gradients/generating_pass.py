"""A forward of `generate`: the prompt read at once, or one token more, with logits of the last token alone.

Source: transformers 5.23 generation/utils.py, _prefill, _sample and (logits_to_keep) prepare_inputs_for_generation.
"""

from dataclasses import replace
from functools import lru_cache

from planner.families.parts import Structure
from planner.step.attention.other_caches import OtherCache, cache_of
from planner.step.batch_tensors import INPUTS
from planner.step.decoder_layer import RESIDUAL
from planner.step.embedding import embed
from planner.step.engine.graph import Buffer, Graph, Value, framed
from planner.step.engine.ops import cast, unary
from planner.step.engine.program import Program, compiled
from planner.step.layer_kinds import trace_layers
from planner.step.losses.full_logits import FLOAT_LOGITS, LOGITS
from planner.step.norms import norm
from planner.step.projections.linear import plain
from planner.step.switches import Switches

# The mark of a forward's last part; the trace's other phase is "forward".
HEAD = "loss"


@lru_cache(maxsize=512)
def trace_generation(
    structure: Structure,
    switches: Switches,
    *,
    decoding: bool,
    sampled: bool = False,
    other_cache: OtherCache | None = None,
) -> Program:
    """The segments of one forward without gradients, one layer of each kind; what is left is the layers' cache.

    `sampled`: the next token is drawn. What the loop of `_sample` names stays until the next token has the same.
    """
    # Position ids are counted up along each sequence's mask (_prepare_position_ids_for_generation).
    structure = replace(structure, rotary_each=True, positions_each=True)
    switches = replace(switches, gathers_experts=decoding)
    graph = Graph()
    graph.recording = False
    cache = cache_of(graph, other_cache, decoding=decoding)
    graph.mark("forward")
    with graph.cause(INPUTS):
        ids = graph.hold([graph.new(8, ("batch",)) for _ in ("input_ids", "attention_mask", "position_ids")])
        # _prepare_special_tokens: as tensors of one token each; _sample: which sequences go on.
        ids += graph.hold([graph.new(8, ()) for _ in ("bos_token_id", "eos_token_id", "pad_token_id")])
        ids.append(graph.hold(graph.new(8, ("b",))))
    scores = graph.hold(graph.new(4, ("b", "V"), FLOAT_LOGITS) if decoding else None)
    probabilities = graph.hold(graph.new(4, ("b", "V"), FLOAT_LOGITS) if decoding and sampled else None)
    x, named, shared, positions = graph.hold(embed(graph, structure, switches, ids, has_mask=True))
    x, leading = graph.hold(trace_layers(graph, structure, switches, graph.move(x), replace(shared, cache=cache)))
    graph.mark("forward")
    if structure.final_norm:
        x = graph.replace(x, norm(graph, structure.final_norm, x, switches, RESIDUAL))
    graph.outputs.clear()
    graph.mark(HEAD)
    logits = graph.hold(_logits(graph, structure, switches, x))
    graph.release(x, named, shared, positions)
    with graph.cause(FLOAT_LOGITS):
        if sampled and switches.autocast:  # accelerate hands outputs back in float32
            logits = graph.replace(logits, cast(graph, logits, 4))
        chosen = graph.hold(graph.new(4, ("b", "V")))
        graph.release(scores)
        if sampled:
            _draw(graph, probabilities)
    graph.release(logits, chosen, ids, probabilities)
    graph.mark(HEAD)
    casts = [*graph.casts.values(), *(kept for of_kind in graph.layer_casts.values() for kept in of_kind.values())]
    graph.check_all_freed((cache.kept.buffers(), casts))
    return compiled(graph, leading=leading)


@framed
def _draw(graph: Graph, before: Buffer | None) -> None:
    """`multinomial(softmax(scores))`: the probabilities beside the last token's, then as many exponential numbers."""
    probabilities = graph.hold(graph.new(4, ("b", "V")))
    graph.release(before)
    exponential = graph.hold(graph.new(4, ("b", "V")))
    graph.release(probabilities, exponential)


@framed
def _logits(graph: Graph, structure: Structure, switches: Switches, x: Value) -> Value:
    """The head over each sequence's last hidden state."""
    with graph.cause(LOGITS):
        logits = graph.hold(plain(graph, switches, structure.head, Value(x.buffer, x.each, ("b", "h"))))
        if structure.logits_scaled:
            logits = graph.replace(logits, unary(graph, logits))
        if structure.logits_softcap:
            logits = graph.replace(logits, unary(graph, unary(graph, unary(graph, logits))))
        if structure.logits_float:
            logits = graph.replace(logits, cast(graph, logits, 4))
    return logits
