"""Where gradients arrive, and what a node of the graph hands to the engine."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.step.engine.buffers import Buffer


class Edge:
    """Where the gradient of a value arrives, which it owns. A parameter's edge (`leaf`) keeps it."""

    __slots__ = ("grad", "leaf")

    def __init__(self, leaf: bool = False) -> None:
        self.grad: Buffer | None = None
        self.leaf = leaf

    def put(self, grad: "Buffer") -> None:
        """Own a gradient, the first that arrives or the sum."""
        grad.own()
        self.grad = grad

    def take(self) -> "Buffer | None":
        """The gradient that has arrived, as a temporary."""
        grad, self.grad = self.grad, None
        if grad is not None:
            grad.owners -= 1
        return grad

    def drop(self) -> None:
        """Disown the gradient that has arrived."""
        grad, self.grad = self.grad, None
        if grad is not None:
            grad.disown()


# A gradient, or how the engine makes it of what the node gave: where that has not the shape or dtype of its tensor.
Late = Callable[[], "Buffer"]
Outcome = tuple[tuple[Edge | None, "Buffer | Late | None"], ...]


def later(held: "Buffer", make: Callable[[], "Buffer"]) -> Late:
    """A gradient that the engine makes of `held`, which goes when it is there."""
    held.own()

    def late() -> "Buffer":
        made = make()
        held.disown()
        return made

    return late
