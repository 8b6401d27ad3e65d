"""What a node of the graph saves for its backward, and the checkpointed call that owes it."""

from collections.abc import Callable
from weakref import ref

from planner.step.engine.buffers import Buffer


class Frame:
    """One checkpointed call: how to run it again, and the saved tensors it owes."""

    __slots__ = ("done", "holders", "run_again")

    def __init__(self, run_again: Callable[[], object]) -> None:
        self.run_again, self.holders, self.done = run_again, list["ref[Holder]"](), False


class Holder:
    """A saved tensor, or the promise of one inside a checkpoint frame; the frame forgets it with its node."""

    __slots__ = ("__weakref__", "buffer", "frame")

    def __init__(self, buffer: Buffer | None, frame: Frame | None) -> None:
        self.buffer, self.frame = buffer, frame


def let_go(saved: list[Holder]) -> None:
    """A checkpoint's hooks hand saved tensors over for good, so that they go when the function of their node returns.

    Other saved tensors stay until what it made is cast and summed (torch/csrc/autograd/engine.cpp, evaluate_function).
    """
    for holder in saved:
        if holder.frame is not None:
            holder.buffer = None
