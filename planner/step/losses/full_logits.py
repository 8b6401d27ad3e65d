"""From the last hidden state to the loss, all logits at once.

Source: transformers 5.23 loss/loss_utils.py ForCausalLMLoss; accelerate 1.15 utils/operations.py convert_to_fp32.
"""

from planner.families.parts import Structure
from planner.request.objective import BY_ALL_LOGITS
from planner.step.engine.graph import Buffer, Edge, Graph, Outcome, Value, drop_casts, framed
from planner.step.engine.offloading import keeps_on_card
from planner.step.engine.ops import cast, unary
from planner.step.losses.chosen_and_rejected import chosen_and_all
from planner.step.losses.fused import chunked, cut_cross_entropy, liger
from planner.step.losses.reward import reward
from planner.step.projections.adalora import regularized
from planner.step.projections.linear import plain
from planner.step.switches import Switches

LOGITS = "logits"
FLOAT_LOGITS = "float32 logits and log-probabilities"


@framed
def head_and_loss(graph: Graph, structure: Structure, switches: Switches, x: Value) -> tuple[Value, Buffer | None]:
    """Head and loss as the recipe has them; returns the loss and what the caller keeps of the outputs.

    `x` is the last hidden state, which goes where the model's forward returns: the model alone names it.
    """
    graph.mark("loss")
    if switches.objective in BY_ALL_LOGITS:
        return _preference(graph, structure, switches, graph.move(x)), None
    if switches.objective == "reward":
        loss = reward(graph, structure, switches, graph.move(x))
        leave_autocast(graph)
        return loss, None
    fused = {"chunked": chunked, "liger": liger, "cut_cross_entropy": cut_cross_entropy}.get(switches.loss)
    if fused is None:
        return full_logits(graph, structure, switches, graph.move(x))
    loss = fused(graph, switches, x)
    graph.release(x)
    loss = regularized(graph, switches, loss)
    leave_autocast(graph)
    return loss, None


@framed
def full_logits(graph: Graph, structure: Structure, switches: Switches, x: Value) -> tuple[Value, Buffer | None]:
    """All logits at once: in the head's dtype, in float32, and as log-probabilities."""
    with graph.cause(LOGITS):
        logits = graph.hold(all_logits(graph, structure, switches, x))
        if switches.liger.cross_entropy:
            loss = liger_cross_entropy(graph, logits)
        else:
            loss = cross_entropy(graph, logits, switches.one_sequence)
        graph.release(x)
        loss = regularized(graph, switches, loss)
        leave_autocast(graph)
        kept = logits.buffer
        if switches.autocast and logits.each != 4:
            kept = graph.replace(kept, graph.new(4, logits.dims, FLOAT_LOGITS))
    return loss, kept if switches.outputs_kept else None


@framed
def all_logits(graph: Graph, structure: Structure, switches: Switches, x: Value) -> Value:
    """The head's output as the model returns it, scaled, capped and cast as its code has it."""
    with graph.cause(LOGITS):
        with keeps_on_card(graph):
            logits = plain(graph, switches, structure.head, x)
        if structure.logits_scaled:
            logits = unary(graph, logits)
        if structure.logits_softcap:
            logits = unary(graph, logits)
            logits = unary(graph, logits, saves="output")
            logits = unary(graph, logits)
        if structure.logits_float:
            with graph.cause(FLOAT_LOGITS):
                logits = cast(graph, logits, 4)
        return logits


@framed
def _preference(graph: Graph, structure: Structure, switches: Switches, x: Value) -> Value:
    """All logits, as accelerate hands them to a loss of the trainer's own."""
    logits = all_logits(graph, structure, switches, x)
    graph.release(x)
    leave_autocast(graph)
    with graph.cause(FLOAT_LOGITS):
        if switches.autocast:
            logits = cast(graph, logits, 4)
        return chosen_and_all(graph, logits, averages=switches.objective == "orpo")


def leave_autocast(graph: Graph) -> None:
    """The end of autocast frees the casts it cached, the head's and each layer's own."""
    for kind, casts in sorted(graph.layer_casts.items()):
        graph.mark(f"loss {kind}")
        drop_casts(casts)
    graph.mark("loss")
    drop_casts(graph.casts)


@framed
def liger_cross_entropy(graph: Graph, logits: Value) -> Value:
    """Liger writes the gradient over the float32 logits in the forward and hands it on (ops/cross_entropy.py)."""
    with graph.cause(FLOAT_LOGITS):
        wide = cast(graph, logits, 4)
        edge_in, labels, losses = wide.edge, graph.new(8, ("T+b",)), graph.new(4, ("T",))
        kept = graph.save(wide)

        def backward(_: Buffer) -> Outcome:
            return ((edge_in, kept[0].buffer),)

        summed = Value(graph.new(4, ()), 4, (), graph.node(backward, kept))
        graph.release(labels, losses)
        return unary(graph, summed)


@framed
def cross_entropy(graph: Graph, logits: Value, one_sequence: bool) -> Value:
    """`cross_entropy(logits.float(), labels)`: 4 bytes upcast, 4 log-probabilities (saved); backward 4 + 4."""
    with graph.cause(FLOAT_LOGITS):
        wide = graph.hold(cast(graph, logits, 4))
        labels = graph.hold(graph.new(8, ("T+b",)))
        if not one_sequence:  # those that are padded keep their name
            labels = graph.hold(graph.new(8, ("T",)))
        edge_in, dims = wide.edge, wide.dims

        def backward(_: Buffer) -> Outcome:
            return ((edge_in, graph.new(4, dims)),)

        log_probs = graph.hold(graph.new(4, dims))
        normalised = Value(log_probs, 4, dims, graph.node(backward, graph.save(log_probs)))
        inner = normalised.edge

        def pick(_: Buffer) -> Outcome:
            return ((inner, graph.new(4, dims)),)

        summed = graph.hold(graph.new(4, ()))
        edge = graph.node(pick, graph.save(normalised, labels, graph.new(4, ())))
        graph.release(log_probs)
        return unary(graph, Value(summed, 4, (), edge))


@framed
def start_backward(graph: Graph, loss: Value) -> None:
    """`loss.backward()`; the engine holds its gradient of one to the end."""
    one = graph.hold(graph.new(4, (), FLOAT_LOGITS))
    if isinstance(loss.edge, Edge):
        loss.edge.put(one)
    graph.backward()
