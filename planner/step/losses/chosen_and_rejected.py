"""ORPO's and CPO's loss: a cross entropy over the chosen sequences, log-probabilities of all, from the same logits.

Source: trl 1.16 experimental/orpo/orpo_trainer.py and cpo/cpo_trainer.py, concatenated_forward and get_batch_logps;
kernels/logprob_entropy.py, which trainer/utils.py selective_log_softmax runs on a card.
"""

from planner.step.engine.graph import Buffer, Graph, Outcome, Value, framed
from planner.step.engine.ops import clone
from planner.step.engine.slice_ops import piece

# The logits of the sequences that were chosen, and their copy, which a single sequence needs none of.
CHOSEN = ("pairs", "s-1", "V")
SHIFTED = ("b", "s-1")
# Per-token float32 numbers that the kernel writes: log-probabilities, entropies, log Z, expected logits.
_STATISTICS = 4


@framed
def chosen_and_all(graph: Graph, logits: Value, *, averages: bool) -> Value:
    """The loss from `logits` as accelerate returns them: (b, s, V), of which the first half was chosen.

    `averages`: ORPO divides each sequence's sum by its number of tokens.
    """
    labels = graph.new(8, ("T",))
    entropy = graph.hold(_cross_entropy_of_chosen(graph, logits))
    scores = graph.hold(_log_probabilities(graph, logits, averages=averages))
    graph.release(labels)
    edges = (entropy.edge, scores.edge)

    def backward(_: Buffer) -> Outcome:
        of_scores = graph.new(4, SHIFTED)
        return (edges[0], graph.new(4, ())), (edges[1], of_scores)

    return Value(graph.new(4, ()), 4, (), graph.node(backward))


@framed
def _cross_entropy_of_chosen(graph: Graph, logits: Value) -> Value:
    """`CrossEntropyLoss()(logits[:n, :-1].contiguous(), labels)`: both are copies, and only the labels' is kept."""
    chosen = graph.hold(piece(graph, logits, ("pairs", "s", "V")))
    shifted = graph.hold(clone(graph, piece(graph, chosen, ("chosen copied", "V"))))
    words = graph.hold(graph.new(8, ("chosen copied",)))
    edge_in, each = shifted.edge, logits.each

    def normalise(_: Buffer) -> Outcome:
        return ((edge_in, graph.new(each, CHOSEN)),)

    log_probs = graph.hold(graph.new(each, CHOSEN))
    normalised = graph.hold(Value(log_probs, each, CHOSEN, graph.node(normalise, graph.save(log_probs))))
    graph.release(log_probs)
    inner = normalised.edge

    def pick(_: Buffer) -> Outcome:
        return ((inner, graph.new(each, CHOSEN)),)

    edge = graph.node(pick, graph.save(normalised, words, graph.new(4, ())))
    loss = graph.hold(Value(graph.new(4, ()), 4, (), edge))
    graph.release(shifted, words)
    return loss


@framed
def _log_probabilities(graph: Graph, logits: Value, *, averages: bool) -> Value:
    """`selective_log_softmax(logits[:, :-1], labels)` by one kernel, which saves the logits and makes their gradient
    anew; then the sum over each sequence's own tokens, and their number, for which the mask is made whole numbers.
    """
    counted = graph.new(1, SHIFTED)
    labels = graph.new(8, SHIFTED)
    shifted = piece(graph, logits, (*SHIFTED, "V"))
    edge_in, each = shifted.edge, logits.each

    def backward(_: Buffer) -> Outcome:
        return ((edge_in, graph.new(each, (*SHIFTED, "V"))),)

    scores, entropies, *saved = (graph.new(4, SHIFTED) for _ in range(_STATISTICS))
    graph.release(entropies)
    masked = graph.new(4, SHIFTED)
    summed = graph.new(4, ("b",))
    graph.release(masked)
    numbers = [graph.new(8, ("b",))] if averages else []
    widened = graph.new(8, SHIFTED) if averages else None
    graph.release(widened)
    edge = graph.node(backward, graph.save(shifted, labels, *saved, counted, summed, *numbers))
    return Value(scores, 4, SHIFTED, edge)
