"""Bytes that tensors asked for, by torch's history of its own allocator: no block that was not split among them.

torch.cuda.memory, `_record_memory_history`: each allocation with the size that was asked for, in order. Recording
changes no allocation.
"""

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import torch

from planner.measurement import PhaseReading
from planner.units import allocated

_ENTRIES = 10_000_000
# What the trace calls the moments at which a block comes and goes (c10/cuda/CUDACachingAllocator.h, TraceEntry).
_COMES, _GOES = "alloc", "free_requested"


@dataclass(slots=True)
class HistoryMeter:
    """Readings of the phases that have ended. A block that was there before is not counted.

    The history is read and begun anew at the end of each phase: a step that generates has hundreds of them.
    """

    phases: dict[str, PhaseReading] = field(default_factory=dict)
    _phase: str = ""
    _alive: dict[int, int] = field(default_factory=dict)
    _live_bytes: int = 0

    def __enter__(self) -> Self:
        """Begin the history."""
        torch.cuda.init()
        _record()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Read the last of it."""
        self._read()
        torch.cuda.memory._record_memory_history(None)

    def begin(self, phase: str) -> None:
        """`phase` begins with the next entry."""
        self._read()
        _record()
        self._phase = phase

    def readings(self) -> tuple[PhaseReading, ...]:
        """One reading per phase in the order of first appearance."""
        return tuple(self.phases.values())

    def now(self) -> PhaseReading | None:
        """Nothing: a phase is read when it has ended."""
        return None

    def _read(self) -> None:
        """What was alive while the phase lasted; before the first one nothing is told."""
        if not self._phase:
            return
        before = self.phases.get(self._phase)
        peak_bytes = max(self._live_bytes, before.peak_allocated_bytes if before else 0)
        for entry in _trace():
            if entry["action"] == _COMES:
                self._alive[entry["addr"]] = allocated(entry["size"])
                self._live_bytes += allocated(entry["size"])
                peak_bytes = max(peak_bytes, self._live_bytes)
            elif entry["action"] == _GOES:
                self._live_bytes -= self._alive.pop(entry["addr"], 0)
        self.phases[self._phase] = PhaseReading(
            name=self._phase, peak_allocated_bytes=peak_bytes, resident_bytes=self._live_bytes
        )


def _record() -> None:
    """Begin a history, without what the one before it has."""
    torch.cuda.memory._record_memory_history("all", context=None, max_entries=_ENTRIES, clear_history=True)


def _trace() -> list[dict[str, Any]]:
    traces: list[list[dict[str, Any]]] = torch.cuda.memory._snapshot()["device_traces"]
    return traces[torch.cuda.current_device()]
