"""Where gradients arrive, and what a node of the graph hands to the engine."""

from collections.abc import Callable

from planner.step.engine.buffers import Buffer


class Edge:
    """Where the gradient of a value arrives. A parameter's edge (`leaf`) keeps it."""

    __slots__ = ("grad", "leaf")

    def __init__(self, leaf: bool = False) -> None:
        self.grad: Buffer | None = None
        self.leaf = leaf


# A gradient, or how the engine makes it of what the node gave: where that has not the shape or dtype of its tensor.
Late = Callable[[], Buffer]
Outcome = tuple[tuple[Edge | None, Buffer | Late | None], ...]


def validated(outcome: list[tuple[Edge | None, Buffer | Late | None]]) -> list[tuple[Edge | None, Buffer | None]]:
    """Gradients of their tensors' shapes, made one after the other (engine.cpp, validate_outputs); takes `outcome`."""
    outcome.reverse()
    ready: list[tuple[Edge | None, Buffer | None]] = []
    while outcome:
        edge, grad = outcome.pop()
        ready.append((edge, grad if grad is None or isinstance(grad, Buffer) else grad()))
        del grad
    return ready
