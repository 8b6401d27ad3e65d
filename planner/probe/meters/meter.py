"""What every meter can do. The step does not know which one it is talking to."""

from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from planner.measurement import PhaseReading

# In the order they happen. The first optimizer step is told apart: `first_forward` ... `first_optimizer`,
# because optimizer states appear at its end; `forward` ... `optimizer` are the steady state.
LOAD, PREPARE, SAVE = "load", "prepare", "save"
STEP_PHASES = ("forward", "loss", "backward", "optimizer")
FIRST = "first_"

# Hears what a phase has read so far, and whether it has ended.
Tell = Callable[[PhaseReading, bool], None]


def tell_nobody(_reading: PhaseReading, _ended: bool) -> None:
    """For runs without a watcher."""


class Meter(Protocol):
    """Reads device memory phase by phase. Used as a context manager around load, steps and save; leaving ends the last
    phase, so leave while what is trained is still alive."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def begin(self, phase: str) -> None:
        """End the current phase and begin `phase`. A name that returns is merged: worst peak, last resident."""

    def readings(self) -> tuple[PhaseReading, ...]:
        """One reading per phase in the order of first appearance."""

    def now(self) -> PhaseReading | None:
        """The phase under way as read so far, for another thread: nothing is waited for, nothing is changed."""
