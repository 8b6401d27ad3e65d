"""Gradients of what is trained, in the dtype of the trained tensor."""

from collections.abc import Sequence

from planner.ledger import Line
from planner.tensors.trainable import Trainable, reached
from planner.units import allocated

# How much of them is alive during the step depends on the layer the worst instant is in, and with accumulation all
# are there from the second micro-batch on: that share is a line of the timeline.
ALIVE_IN = ("optimizer",)


def gradients_bytes(tensors: Sequence[Trainable]) -> int:
    """All gradients together."""
    return sum(allocated(tensor.elements * tensor.itemsize_bytes) * tensor.count for tensor in reached(tensors))


def gradient_lines(tensors: Sequence[Trainable]) -> list[Line]:
    """Gradients at the optimizer step.

    Source: autograd accumulates into `.grad` of the leaf's dtype; Trainer sets them to None after each step.
    """
    tensors = reached(tensors)
    elements = sum(tensor.elements * tensor.count for tensor in tensors)
    itemsizes = "/".join(str(size) for size in sorted({tensor.itemsize_bytes for tensor in tensors}))
    return [
        Line(
            name="gradients",
            bytes=gradients_bytes(tensors),
            cause="gradients",
            alive_in=ALIVE_IN,
            formula="e × trained parameters, each tensor rounded up to 512 bytes",
            working=f"{itemsizes} × {elements:,}",
            source="torch autograd: .grad has the dtype of its leaf",
        )
    ]
