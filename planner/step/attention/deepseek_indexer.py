"""DeepSeek V3.2's indexer: a small attention without gradients that chooses which keys each token may see.

Source: transformers 5.23 models/deepseek_v32/modeling_deepseek_v32.py, DeepseekV32Indexer. Its scores are written out
for every indexer head, and each layer makes a mask of its own.
"""

from planner.families.parts import Indexer, Norm
from planner.step.attention.kernels import SCORES
from planner.step.attention.rotary import turn
from planner.step.attention.rotary_pairs import Tables
from planner.step.engine.graph import Graph, Value, framed
from planner.step.engine.ops import cast
from planner.step.norms import norm
from planner.step.projections.linear import Projector

_SCORES = ("T", "index heads", "s")
_PAIRS = ("T", "s")
_NORM = Norm("indexer.k_norm", "index d", "layer", bias=True)


@framed
def sparse_mask(
    graph: Graph, part: Indexer, inputs: tuple[Value, Value], tables: Tables, project: Projector
) -> tuple[Value, ...]:
    """This layer's mask, true where a key is chosen; after it what keeps its name until attention is done.

    `inputs` are what keys are made of, x, and what queries are made of, their latent.
    """
    recording, graph.recording = graph.recording, False
    try:
        with graph.cause(SCORES):
            return _mask(graph, _chosen(graph, part, inputs, tables, project))
    finally:
        graph.recording = recording


@framed
def _chosen(graph: Graph, part: Indexer, inputs: tuple[Value, Value], tables: Tables, project: Projector) -> Value:
    """The `index top` best keys of every token."""
    x, low = inputs
    autocast = project.switches.autocast
    q = graph.hold(project(part.q, low))
    k = graph.hold(norm(graph, _NORM, project(part.k, x), project.switches))
    q_rot = turn(graph, Value(q.buffer, q.each, ("T", "index rot")), tables, "full", "")
    k_rot = turn(graph, Value(k.buffer, k.each, ("T", "k rot")), tables, "full", "")
    query, key = graph.hold(
        (Value(graph.new(q.each, q.dims), q.each, q.dims), Value(graph.new(k.each, k.dims), k.each, k.dims))
    )
    scores = _scores(graph, query, key, autocast, one_sequence=project.switches.one_sequence)
    each = scores.each
    weights = graph.new(4, ("T", "index heads"))
    summed, shut = graph.new(each, _PAIRS), graph.new(1, _PAIRS)
    masked = graph.new(each, _PAIRS)
    graph.release(summed, shut)
    best, index = graph.new(each, ("T", "index top")), graph.new(8, ("T", "index top"))
    graph.release(best)
    chosen = graph.new(4, ("T", "index top"))
    graph.release(q_rot, k_rot, scores, weights, masked, index)
    return Value(chosen, 4, ("T", "index top"))


@framed
def _scores(graph: Graph, q: Value, k: Value, autocast: int, *, one_sequence: bool) -> Value:
    """`relu(q.float() @ k.float() · scale)`, which autocast turns back to 16 bit."""
    q, k = graph.replace((q, k), (cast(graph, q, 4), cast(graph, k, 4)))
    each = autocast or 4
    if autocast:
        k, q = graph.replace((k, q), (cast(graph, k, autocast), cast(graph, q, autocast)))
    # matmul spreads the keys over the tokens; of more than one sequence that is a copy (LinearAlgebra.cpp, _matmul).
    spread = graph.hold(None if one_sequence else graph.new(each, ("T", "index d", "s")))
    product = graph.hold(graph.new(each, _SCORES))
    graph.release(q, k, spread)
    scaled = graph.hold(graph.new(each, _SCORES))
    graph.release(product)
    positive = graph.hold(Value(graph.new(each, _SCORES), each, _SCORES))
    graph.release(scaled)
    return positive


@framed
def _mask(graph: Graph, chosen: Value) -> tuple[Value, ...]:
    """Ones, zero at the chosen keys, turned round and joined with the causal mask."""
    ones, wide = graph.new(1, _PAIRS), graph.new(8, chosen.dims)
    scattered = Value(graph.new(1, _PAIRS), 1, _PAIRS)
    graph.release(ones, wide)
    turned = graph.new(1, _PAIRS)
    joined = graph.new(1, _PAIRS)
    graph.release(turned)
    return Value(joined, 1, _PAIRS), scattered, chosen
