"""Unsloth's fused cross entropy: the gradient of the hidden states is made in the forward pass and kept.

Source: unsloth_zoo 2026.10.9 fused_losses/fused_linear.py (_ce_checked, _ce_impl, _tiled_forward, _row_forward) and
chunked_logprob.py (_ce_targets); a frozen head has no gradient. `N` counts the scored tokens.
"""

from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed
from planner.step.engine.ops import unary
from planner.step.losses.fused import SCORES, TILE
from planner.step.switches import Switches

_LOGIT_BYTES = 4
# Statistics of each part of a row: seven of them of a chunk, eight of a tile.
_OF_CHUNK, _OF_TILE = 7, 8
# Divisor, scale, one in its place, whether labels are in range, loss, coefficient and its power of two.
_SCALARS = 7


@framed
def fused_cross_entropy(graph: Graph, switches: Switches, x: Value) -> Value:
    """The loss; `x` goes when the model's forward returns."""
    with graph.cause(SCORES):
        masked = graph.new(8, ("T",))
        targets = graph.new(8, ("T",))
        checked = graph.new(1, ("T",))
        scalars = [graph.new(4, ()) for _ in range(_SCALARS)]
        index = graph.new(8, ("N",))
        gradient = graph.new(x.each, ("T", "h"))
        scores = graph.new(4, ("N",))
        if switches.unsloth and switches.unsloth.tiled_loss:
            _tiles(graph, x.each)
        else:
            _chunks(graph, x.each, several=bool(switches.unsloth and switches.unsloth.several_chunks))
        wide = graph.new(8, ("N",))
        negated = graph.new(8, ("N",))
        graph.release(wide, negated, scores, index, scalars, checked, targets, masked)
        edge_in, each, kept = x.edge, x.each, graph.save(gradient)

        def backward(_: Buffer) -> Outcome:
            return ((edge_in, graph.new(each, ("T", "h"))),)

        loss = Value(graph.new(4, ()), 4, (), graph.node(backward, kept))
        graph.release(x)
        return unary(graph, loss)


@framed
def _tiles(graph: Graph, each: int) -> None:
    """Tiles of the vocabulary: float32 logits, over which their probabilities are written, and sums of them."""
    rows = "tile rows of logits"
    lse = graph.new(4, ("N",))
    tile = graph.new(_LOGIT_BYTES, (rows, "tile columns"), TILE)
    summed = graph.new(4, (rows, "h"))
    most = graph.new(4, (rows,))
    copied = graph.new(each, (rows, "h"))
    labels = graph.new(8, (rows,))
    parts = graph.new(4 * _OF_TILE, (rows, "parts of V"))
    graph.release(lse, tile, summed, most, copied, labels, parts)


@framed
def _chunks(graph: Graph, each: int, *, several: bool) -> None:
    """Rows of float32 logits, over which their gradient is written. The loop's names hold the chunk before."""
    logits = graph.new(_LOGIT_BYTES, ("chunk rows", "V8"), TILE)
    copied = labels = lse = gradient = None
    for rows in ("chunk rows", "next chunk rows") if several else ("chunk rows",):
        copied = graph.replace(copied, graph.new(each, (rows, "h")))
        labels = graph.replace(labels, graph.new(8, (rows,)))
        lse = graph.replace(lse, graph.new(4, (rows,)))
        parts = graph.new(4 * _OF_CHUNK, (rows, "row parts"))
        graph.release(parts)
        gradient = graph.replace(gradient, graph.new(4, (rows, "h")))
        narrow = graph.new(each, (rows, "h"))
        graph.release(narrow)
    graph.release(logits)
