"""Tensors that nodes save for their backward, and the checkpoints that promise them."""

from collections.abc import Callable

from planner.step.engine.buffers import Buffer


class CheckpointFrame:
    """One checkpointed call: how to run it again, what it owns for that, and the saved tensors it owes.

    Its owners are the call while it runs, and each saved tensor that it owes.
    """

    __slots__ = ("done", "holders", "inputs", "owners", "run_again")

    def __init__(self, run_again: Callable[[], object], inputs: list[Buffer]) -> None:
        self.run_again, self.holders, self.done = run_again, list[Holder](), False
        self.inputs, self.owners = inputs, 1
        for buffer in inputs:
            buffer.own()

    def disown(self) -> None:
        """Count one owner less; with the last one the inputs go."""
        self.owners -= 1
        if not self.owners:
            for buffer in self.inputs:
                buffer.disown()


class Holder:
    """A saved tensor, which it owns, or the promise of one inside a checkpoint frame; released with its node."""

    __slots__ = ("buffer", "frame", "released")

    # Whether a hook of its own hands the tensor over, and keeps nothing.
    hooked = False

    def __init__(self, buffer: Buffer | None, frame: CheckpointFrame | None = None) -> None:
        self.buffer, self.frame, self.released = buffer, frame, False
        if buffer is not None:
            buffer.own()
        if frame is not None:
            frame.owners += 1

    def fill(self, buffer: Buffer | None) -> None:
        """Keep the promise."""
        if buffer is not None:
            buffer.own()
        self.buffer = buffer

    def drop(self) -> None:
        """Disown the tensor."""
        buffer, self.buffer = self.buffer, None
        if buffer is not None:
            buffer.disown()

    def release(self) -> None:
        """The end of the node: the tensor goes, and the frame that owes it has an owner less."""
        if self.released:
            return
        self.released = True
        self.drop()
        if self.frame is not None:
            self.frame.disown()


class Given(Holder):
    """What a reentrant checkpoint was called with beside its input, which its node owns."""

    __slots__ = ("given",)

    def __init__(self, given: list[Buffer]) -> None:
        super().__init__(None)
        self.given = given
        for buffer in given:
            buffer.own()

    def drop(self) -> None:
        """Disown all."""
        given, self.given = self.given, []
        for buffer in given:
            buffer.disown()


class OffloadedHolder(Holder):
    """A saved tensor by its number (offloading.py). `waits`: the memory that was copied, until a node asks for it."""

    __slots__ = ("number", "waits")
    hooked = True

    def __init__(self, number: int, buffer: Buffer | None, waits: Buffer | None = None) -> None:
        super().__init__(buffer)
        self.number, self.waits = number, waits


class RecomputeDone(Exception):  # noqa: N818  torch's twin is called _StopRecomputationError; neither is an error
    """A checkpoint's recomputation has saved everything that was asked for."""


def let_go(saved: list[Holder]) -> None:
    """A checkpoint's hooks hand saved tensors over for good, so that they go when the function of their node returns;
    so do those of offloading.

    Other saved tensors stay until what it made is cast and summed (torch/csrc/autograd/engine.cpp, evaluate_function).
    """
    for holder in saved:
        if holder.frame is not None or holder.hooked:
            holder.drop()


def release_all(saved: list[Holder]) -> None:
    """What a node saved goes with it."""
    for holder in saved:
        holder.release()
