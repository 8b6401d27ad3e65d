"""DeepSeek V3.2's indexer: a small attention without gradients that chooses which keys each token may see.

Source: transformers 5.23 models/deepseek_v32/modeling_deepseek_v32.py, DeepseekV32Indexer. Its scores are written out
for every indexer head, and each layer makes a mask of its own.
"""

from planner.families.parts import Indexer, Norm
from planner.timeline.attend import SCORES
from planner.timeline.norms import norm
from planner.timeline.ops import cast
from planner.timeline.pairs import Tables
from planner.timeline.projections import Projector
from planner.timeline.rotary import turn
from planner.timeline.tape import Tape, Value

_SCORES = ("T", "index heads", "s")
_PAIRS = ("T", "s")
_NORM = Norm("indexer.k_norm", "index d", "layer", bias=True)


def sparse_mask(
    tape: Tape, part: Indexer, inputs: tuple[Value, Value], tables: Tables, project: Projector
) -> tuple[Value, ...]:
    """This layer's mask, true where a key is chosen; after it what keeps its name until attention is done.

    `inputs` are what keys are made of, x, and what queries are made of, their latent.
    """
    recording, tape.recording = tape.recording, False
    try:
        with tape.cause(SCORES):
            return _mask(tape, _chosen(tape, part, inputs, tables, project))
    finally:
        tape.recording = recording


def _chosen(tape: Tape, part: Indexer, inputs: tuple[Value, Value], tables: Tables, project: Projector) -> Value:
    """The `index top` best keys of every token."""
    x, low = inputs
    autocast = project.switches.autocast
    q = project(part.q, low)
    k = norm(tape, _NORM, project(part.k, x), project.switches)
    q_rot = turn(tape, Value(q.buffer, q.each, ("T", "index rot")), tables, "full", "")
    k_rot = turn(tape, Value(k.buffer, k.each, ("T", "k rot")), tables, "full", "")
    query, key = Value(tape.new(q.each, q.dims), q.each, q.dims), Value(tape.new(k.each, k.dims), k.each, k.dims)
    scores = _scores(tape, query, key, autocast, one_sequence=project.switches.one_sequence)
    each = scores.each
    weights = tape.new(4, ("T", "index heads"))
    summed, shut = tape.new(each, _PAIRS), tape.new(1, _PAIRS)
    masked = tape.new(each, _PAIRS)
    del summed, shut
    best, index = tape.new(each, ("T", "index top")), tape.new(8, ("T", "index top"))
    del best
    chosen = tape.new(4, ("T", "index top"))
    del q, k, q_rot, k_rot, query, key, scores, weights, masked, index
    return Value(chosen, 4, ("T", "index top"))


def _scores(tape: Tape, q: Value, k: Value, autocast: int, *, one_sequence: bool) -> Value:
    """`relu(q.float() @ k.float() · scale)`, which autocast turns back to 16 bit."""
    q, k = cast(tape, q, 4), cast(tape, k, 4)
    each = autocast or 4
    if autocast:
        k, q = cast(tape, k, autocast), cast(tape, q, autocast)
    # matmul spreads the keys over the tokens; of more than one sequence that is a copy (LinearAlgebra.cpp, _matmul).
    spread = None if one_sequence else tape.new(each, ("T", "index d", "s"))
    product = tape.new(each, _SCORES)
    del q, k, spread
    scaled = tape.new(each, _SCORES)
    del product
    positive = Value(tape.new(each, _SCORES), each, _SCORES)
    del scaled
    return positive


def _mask(tape: Tape, chosen: Value) -> tuple[Value, ...]:
    """Ones, zero at the chosen keys, turned round and joined with the causal mask."""
    ones, wide = tape.new(1, _PAIRS), tape.new(8, chosen.dims)
    scattered = Value(tape.new(1, _PAIRS), 1, _PAIRS)
    del ones, wide
    turned = tape.new(1, _PAIRS)
    joined = tape.new(1, _PAIRS)
    del turned
    return Value(joined, 1, _PAIRS), scattered, chosen
