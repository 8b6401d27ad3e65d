"""Losses that never write out all logits: TRL's fused head, Liger's fused linear cross entropy, Cut Cross-Entropy.

Sources: trl 1.16 trainer/utils.py add_fused_lm_head and kernels/chunked_logprob.py;
liger-kernel 0.8.5 ops/fused_linear_cross_entropy.py; cut_cross_entropy 25.9 cce.py and cce_backward.py.
`N` counts the scored tokens: of each sequence all that count but the first.
"""

from typing import Literal

from planner.request.objective import BY_FUSED_HEAD, Objective
from planner.step.engine.graph import Alias, Buffer, Graph, Outcome, Value, framed
from planner.step.engine.ops import GRADIENTS, unary
from planner.step.passes import TRAINED, Pass
from planner.step.switches import Switches

TILE = "logits tile of the fused loss"
# Tokens that have a label: all but the first of each sequence, whether they are scored or not.
LABELS = ("b", "s-1")
SCORES = "scored hidden states and per-token statistics"
# What the fused head returns beside the log-probabilities, by objective: the trainers' own metrics read them.
Output = Literal["entropy", "mean_logits", "is_top1"]
_OUTPUTS: dict[str, frozenset[Output]] = {
    "sft": frozenset({"entropy", "is_top1"}),
    "dpo": frozenset({"entropy", "mean_logits", "is_top1"}),
    "kto": frozenset({"entropy", "mean_logits"}),
    "grpo": frozenset({"entropy"}),
}
# Per-token float32 statistics that ChunkedLogProbFunction.forward folds tiles into.
_STATISTICS = 7


def outputs_of(objective: Objective, one: Pass) -> frozenset[Output]:
    """What a pass returns; a second model has a head of its own, which returns log-probabilities alone."""
    return _OUTPUTS[objective] if one.weights != "copy" else frozenset()


@framed
def chunked(graph: Graph, switches: Switches, x: Value) -> Value:
    """TRL: a tile of at most 4096 tokens by 32768 words, whatever the vocabulary; nothing grows with T·V."""
    with graph.cause(SCORES):
        valid = graph.hold(graph.new(1, LABELS))
        hidden = graph.hold(_select(graph, x, valid))
        labels = graph.new(8, ("N",))
        compute = switches.autocast or x.each
        outputs = outputs_of(switches.objective, TRAINED)
        log_z, entropy, log_probs, *others = graph.hold(_statistics(graph, hidden, compute, switches, outputs))
        edge_in, rows = hidden.edge, ("N", "h")
        each, trained = x.each, switches.trains_head
        own = switches.head_width

        def backward(_: Buffer) -> Outcome:
            wide = graph.hold(graph.new(4, rows))
            wide_weight = graph.hold(graph.new(4, ("V", "h"), GRADIENTS) if trained else None)
            named = _tiles(graph, each, compute, switches, names_weight=True)
            narrow = graph.new(each, rows) if each != 4 else wide
            weight = graph.new(own, ("V", "h"), GRADIENTS) if wide_weight and own != 4 else wide_weight
            graph.release(named)
            return (edge_in, narrow), (graph.head if trained else None, weight)

        edge = graph.node(backward, graph.save(hidden, None, labels, log_z, entropy))
        graph.release(hidden, log_z, entropy, others)
        gathered = graph.node(lambda _: ((edge, graph.new(4, ("N",))),), graph.save(valid))
        scattered = graph.hold(Value(graph.new(4, LABELS), 4, LABELS, gathered))
        graph.release(log_probs)
        if graph.offloading is not None:  # saved for the entropy and for the head's own loss, which have no gradient
            graph.offloading.never_asked_for(valid)
            graph.offloading.never_asked_for(graph.new(8, ()))
        return unary(graph, unary(graph, _summed(graph, scattered)))


@framed
def _summed(graph: Graph, x: Value) -> Value:
    """`sum()`: its gradient is the loss's own, expanded, which is a view."""
    edge_in = x.edge
    return Value(graph.new(4, ()), 4, (), graph.node(lambda grad: ((edge_in, Alias(grad)),)))


@framed
def log_probabilities(graph: Graph, switches: Switches, x: Value, outputs: frozenset[Output]) -> Buffer:
    """The same without gradients, where nothing but the log-probabilities stays."""
    with graph.cause(SCORES):
        valid = graph.hold(graph.new(1, LABELS))
        hidden = _select(graph, x, valid)
        labels = graph.new(8, ("N",))
        found = _statistics(graph, hidden, switches.autocast or x.each, switches, outputs)
        graph.release(labels, valid)
        scattered = graph.new(4, LABELS)
        graph.release(found)
        return scattered


@framed
def kept_outputs(graph: Graph, switches: Switches) -> list[Buffer]:
    """What TRL's preference trainers read of the trained model's outputs until the loss is there: log-probabilities,
    entropies and mean logits, DPO also whether a token was the likeliest; the head's own loss and the number of tokens
    that it is divided by. KTO's numbers and places of desirable and other examples, and the sums of their scores.
    """
    if switches.objective not in BY_FUSED_HEAD:
        return []
    with graph.cause(SCORES):
        likeliest = [graph.new(1, ("N",))] if switches.objective == "dpo" else []
        numbers = [graph.new(4, ()) for _ in ("loss", "tokens")]
        if switches.objective == "kto":
            numbers += [graph.new(8, ("b",)) for _ in ("desirable", "other") for _ in ("places", "scores")]
        return [*(graph.new(4, ("N",)) for _ in range(3)), *likeliest, *numbers]


@framed
def _select(graph: Graph, x: Value, valid: Buffer) -> Value:
    """`hidden[:, :-1][mask]`: the scored rows copied; backward sets them among all with a label, then among all."""
    if not graph.needs(x):
        return Value(graph.new(x.each, ("N", "h")), x.each, ("N", "h"))
    edge_in, each = x.edge, x.each

    def unslice(_: Buffer) -> Outcome:
        return ((edge_in, graph.new(each, ("T", "h"))),)

    sliced = graph.node(unslice)

    def unselect(_: Buffer) -> Outcome:
        return ((sliced, graph.new(each, (*LABELS, "h"))),)

    edge = graph.node(unselect, graph.save(valid))
    return Value(graph.new(each, ("N", "h")), each, ("N", "h"), edge)


@framed
def _statistics(
    graph: Graph, hidden: Value, compute: int, switches: Switches, outputs: frozenset[Output]
) -> tuple[Buffer, Buffer | None, Buffer, Buffer | None, Buffer | None]:
    """Fold the tiles; what is left is log Z, and of what was asked for entropy, log-probabilities, mean logits and
    whether a token was the likeliest.
    """
    statistics = [graph.new(4, ("N",)) for _ in range(_STATISTICS)]
    named = _tiles(graph, hidden.each, compute, switches, names_weight=False)
    logarithm = graph.new(4, ("N",))
    log_z = graph.new(4, ("N",))
    graph.release(logarithm)
    log_probs = graph.new(4, ("N",))
    ratio = graph.new(4, ("N",)) if "entropy" in outputs else None
    entropy = graph.new(4, ("N",)) if "entropy" in outputs else None
    graph.release(ratio)
    mean_logits = graph.new(4, ("N",)) if "mean_logits" in outputs else None
    reached = [graph.new(1, ("N",)) for _ in ("not less", "more") if "is_top1" in outputs]
    likeliest = graph.new(1, ("N",)) if reached else None
    graph.release(statistics, named, reached)
    return log_z, entropy, log_probs, mean_logits, likeliest


@framed
def _tiles(
    graph: Graph, each: int, compute: int, switches: Switches, *, names_weight: bool
) -> tuple[Buffer | None, ...]:
    """What the loop over tiles has a name for to the end: the tile, and of a float32 hidden state the slice that is
    cast beside it; of a float32 head only the backward pass names the slice.
    """
    tile = graph.new(compute, ("tile",), TILE)
    hidden = graph.new(compute, ("tile rows", "h"), TILE) if each != compute else None
    weight = graph.hold(graph.new(compute, ("tile words", "h"), TILE) if switches.head_width != compute else None)
    graph.mark_product()
    return (tile, hidden, weight) if names_weight else (tile, hidden)


@framed
def liger(graph: Graph, switches: Switches, x: Value) -> Value:
    """Liger computes the gradient of the hidden states in the forward, chunk by chunk of the logits, and keeps it.

    Chunk: next power of two of ceil(T / ceil(V / h)) tokens, so that a chunk of logits weighs about as much as x.
    A frozen head makes no gradient of its own; a trained one makes V·h.
    """
    with graph.cause("Liger's fused cross entropy"):
        labels = graph.hold(graph.new(8, ("T+b",)))
        copied = graph.hold(labels if switches.one_sequence else graph.new(8, ("T",)))
        grad = graph.hold(graph.new(x.each, ("T", "h")))
        weight = graph.hold(graph.new(switches.head_width, ("V", "h"), GRADIENTS) if switches.trains_head else None)
        losses, valid = graph.hold((graph.new(4, ("T",)), graph.new(1, ("T",))))
        _liger_chunks(graph, switches, x.each)
        summed = graph.hold(graph.new(4, ()))
        graph.release(losses, valid, labels, copied)
        edge_in, trained = x.edge, switches.trains_head
        kept = graph.save(grad, weight)

        def backward(_: Buffer) -> Outcome:
            return (edge_in, kept[0].buffer), (graph.head if trained else None, kept[1].buffer)

        edge = graph.node(backward, kept)
        return unary(graph, Value(summed, 4, (), edge))


@framed
def _liger_chunks(graph: Graph, switches: Switches, each: int) -> None:
    """The first chunk and the one after it, which finds the weight that autocast has cast and kept.

    One buffer serves all chunks where nothing is cast (`_can_use_mm_out`). Autocast keeps the cast of a trained float32
    weight (autocast_mode.cpp, cached_cast), not that of its transpose, which it makes for every chunk.
    """
    compute, head = switches.autocast or each, switches.liger_head
    casts_x = head.casts if each == switches.head_width else each != compute
    in_place = not (casts_x or head.casts)
    shared = graph.hold(graph.new(compute, ("liger rows", "V"), TILE) if in_place else None)
    for rows in ("liger rows", "liger next rows"):
        logits = graph.hold(shared)
        if not in_place:
            casts = graph.hold([graph.new(compute, (rows, "h")) if casts_x else None])
            casts.append(graph.hold(graph.new(compute, ("V", "h")) if head.casts else None))
            logits = graph.replace(logits, graph.new(compute, (rows, "V"), TILE))
            graph.release(casts)
            _gradient_of_rows(graph, switches, compute, rows)
        if switches.trains_head:
            _add_to_weight(graph, switches, compute, graph.new(compute, (rows, "h")) if casts_x else None)
        graph.release(logits)


@framed
def _gradient_of_rows(graph: Graph, switches: Switches, compute: int, rows: str) -> None:
    """`grad_input[rows] = logits @ weight`: a product of its own, copied where it belongs."""
    cast = None
    if switches.liger_head.casts and "liger head" not in graph.casts:
        cast = graph.hold(Value(graph.new(compute, ("V", "h")), compute, ("V", "h")))
        if switches.trains_head and switches.head_width == 4:
            graph.keep_cast("liger head", cast)
    product = graph.hold(graph.new(compute, (rows, "h")))
    graph.release(cast, product)


@framed
def _add_to_weight(graph: Graph, switches: Switches, compute: int, cast: Buffer | None) -> None:
    """Added by `addmm` in place, or a product and its float32 copy first. `cast` are the hidden states for it."""
    if not switches.liger_head.adds_in_place:
        product = graph.hold(graph.new(compute, ("V", "h")))
        graph.release(cast)
        wide = graph.hold(graph.new(4, ("V", "h")) if compute != 4 else product)
        graph.release(product, wide)


@framed
def cut_cross_entropy(graph: Graph, switches: Switches, x: Value) -> Value:
    """Logits live in the kernels' registers: what is written is a few numbers per token and one per word.

    Forward: log Z and the score of the right word, and the mean logit of each word, by which the backward sorts the
    vocabulary. Its kernel takes 16-bit hidden states and weights only, so that wider ones are cast before.
    """
    with graph.cause("Cut Cross-Entropy"):
        compute = min(2, x.each)
        edge_in, each, own, trained = x.edge, x.each, switches.head_width, switches.trains_head
        narrow = graph.hold(graph.new(compute, ("T", "h")) if each != compute else None)
        weight = graph.hold(graph.new(compute, ("V", "h")) if own != compute else None)
        labels, valid = graph.hold((graph.new(8, ("T+b",)), graph.new(4, ("N",))))
        log_z, mean_logits, scores = graph.hold((graph.new(4, ("N",)), graph.new(4, ("V",)), graph.new(4, ("N",))))

        def backward(_: Buffer) -> Outcome:
            ordering = graph.hold(graph.new(4, ("V",)))
            gradient = graph.hold(graph.new(compute, ("T", "h")))
            of_head = graph.hold(graph.new(compute, ("V", "h"), GRADIENTS) if trained else None)
            graph.release(ordering)
            gradient = graph.replace(gradient, graph.new(each, ("T", "h")) if each != compute else gradient)
            of_head = graph.replace(
                of_head, graph.new(own, ("V", "h"), GRADIENTS) if of_head and own != compute else of_head
            )
            return (edge_in, gradient), (graph.head if trained else None, of_head)

        hidden = graph.hold(x if narrow is None else narrow)
        edge = graph.node(backward, graph.save(hidden, weight, log_z, labels, valid, mean_logits))
        graph.release(labels, valid, log_z, mean_logits, narrow, weight)
        loss = graph.hold(Value(graph.new(4, ()), 4, (), edge))
        graph.release(scores)
        return loss
