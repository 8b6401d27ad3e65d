"""From the last hidden state to the loss, all logits at once.

Source: transformers 5.23 loss/loss_utils.py ForCausalLMLoss; accelerate 1.15 utils/operations.py convert_to_fp32.
"""

from planner.families.parts import Structure
from planner.timeline.fused_losses import chunked, cut_cross_entropy, liger
from planner.timeline.ops import cast, unary
from planner.timeline.projections import plain
from planner.timeline.switches import Switches
from planner.timeline.tape import Buffer, Edge, Outcome, Tape, Value

LOGITS = "logits"
FLOAT_LOGITS = "float32 logits and log-probabilities"


def head_and_loss(
    tape: Tape, structure: Structure, switches: Switches, hidden: list[Value]
) -> tuple[Value, Buffer | None]:
    """Head and loss as the recipe has them; returns the loss and what the caller keeps of the outputs.

    `hidden` is the last hidden state in a list that is emptied where the model's forward returns: the model alone
    names it, not the caller.
    """
    tape.mark("loss")
    fused = {"chunked": chunked, "liger": liger, "cut_cross_entropy": cut_cross_entropy}.get(switches.loss)
    if fused is None:
        return full_logits(tape, structure, switches, hidden)
    loss = fused(tape, switches, hidden[0])
    hidden.clear()
    leave_autocast(tape)
    return loss, None


def full_logits(
    tape: Tape, structure: Structure, switches: Switches, hidden: list[Value]
) -> tuple[Value, Buffer | None]:
    """All logits at once: in the head's dtype, in float32, and as log-probabilities."""
    with tape.cause(LOGITS):
        logits = plain(tape, switches, structure.head, hidden[0])
        if structure.logits_scaled:
            logits = unary(tape, logits)
        if structure.logits_softcap:
            logits = unary(tape, logits)
            logits = unary(tape, logits, saves="output")
            logits = unary(tape, logits)
        if structure.logits_float:
            with tape.cause(FLOAT_LOGITS):
                logits = cast(tape, logits, 4)
        if switches.liger:
            loss = liger_cross_entropy(tape, logits)
        else:
            loss = cross_entropy(tape, logits, switches.one_sequence)
        hidden.clear()
        leave_autocast(tape)
        kept = logits.buffer
        if switches.autocast and logits.each != 4:
            kept = tape.new(4, logits.dims, FLOAT_LOGITS)
    return loss, kept if switches.outputs_kept else None


def leave_autocast(tape: Tape) -> None:
    """The end of autocast frees the casts it cached, the head's and each layer's own."""
    for kind, casts in sorted(tape.layer_casts.items()):
        tape.mark(f"loss {kind}")
        casts.clear()
    tape.mark("loss")
    tape.casts.clear()


def liger_cross_entropy(tape: Tape, logits: Value) -> Value:
    """Liger writes the gradient over the float32 logits in the forward and hands it on (ops/cross_entropy.py)."""
    with tape.cause(FLOAT_LOGITS):
        wide = cast(tape, logits, 4)
        edge_in, labels, losses = wide.edge, tape.new(8, ("T+b",)), tape.new(4, ("T",))
        kept = tape.save(wide)
        del wide

        def backward(_: Buffer) -> Outcome:
            return ((edge_in, kept[0].buffer),)

        summed = Value(tape.new(4, ()), 4, (), tape.node(backward, kept))
        del labels, losses
        return unary(tape, summed)


def cross_entropy(tape: Tape, logits: Value, one_sequence: bool) -> Value:
    """`cross_entropy(logits.float(), labels)`: 4 bytes upcast, 4 log-probabilities (saved); backward 4 + 4."""
    with tape.cause(FLOAT_LOGITS):
        wide = cast(tape, logits, 4)
        labels = tape.new(8, ("T+b",))
        padded = labels
        if not one_sequence:
            labels = tape.new(8, ("T",))
        edge_in, dims = wide.edge, wide.dims
        del logits

        def backward(_: Buffer) -> Outcome:
            return ((edge_in, tape.new(4, dims)),)

        log_probs = tape.new(4, dims)
        normalised = Value(log_probs, 4, dims, tape.node(backward, tape.save(log_probs)))
        del log_probs
        inner = normalised.edge

        def pick(_: Buffer) -> Outcome:
            return ((inner, tape.new(4, dims)),)

        edge = tape.node(pick, tape.save(normalised, labels, tape.new(4, ())))
        summed = Value(tape.new(4, ()), 4, (), edge)
        del padded
        return unary(tape, summed)


def start_backward(tape: Tape, loss: Value) -> None:
    """`loss.backward()`; the engine holds its gradient of one to the end."""
    one = tape.new(4, (), FLOAT_LOGITS)
    if isinstance(loss.edge, Edge):
        loss.edge.grad = one
    tape.backward()
    del one
