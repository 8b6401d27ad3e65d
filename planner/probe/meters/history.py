"""Bytes that tensors asked for, by torch's history of its own allocator: no block that was not split among them.

torch.cuda.memory, `_record_memory_history`: each allocation with the size that was asked for, in order. Recording
changes no allocation.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

import torch

from planner.measurement import PhaseReading
from planner.units import allocated

_ENTRIES = 10_000_000
# What the trace calls the moments at which a block comes and goes (c10/cuda/CUDACachingAllocator.h, TraceEntry).
_COMES, _GOES = "alloc", "free_completed"


@dataclass(slots=True)
class HistoryMeter:
    """Readings appear when it is left. A block that was there before is not counted."""

    phases: dict[str, PhaseReading] = field(default_factory=dict)
    _begun: list[tuple[int, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Begin the history."""
        torch.cuda.init()
        torch.cuda.memory._record_memory_history("all", context=None, max_entries=_ENTRIES)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Read it."""
        entries = _trace()
        torch.cuda.memory._record_memory_history(None)
        for reading in _readings(entries, [*self._begun, (len(entries), "")]):
            before = self.phases.get(reading.name)
            peak_bytes = max(reading.peak_allocated_bytes, before.peak_allocated_bytes if before else 0)
            self.phases[reading.name] = reading.model_copy(update={"peak_allocated_bytes": peak_bytes})

    def begin(self, phase: str) -> None:
        """`phase` begins with the next entry."""
        self._begun.append((len(_trace()), phase))

    def readings(self) -> tuple[PhaseReading, ...]:
        """One reading per phase in the order of first appearance."""
        return tuple(self.phases.values())

    def now(self) -> PhaseReading | None:
        """Nothing: the history is read at the end."""
        return None


def _trace() -> list[dict[str, Any]]:
    traces: list[list[dict[str, Any]]] = torch.cuda.memory._snapshot()["device_traces"]
    return traces[torch.cuda.current_device()]


def _readings(entries: list[dict[str, Any]], begun: list[tuple[int, str]]) -> Iterator[PhaseReading]:
    """What was alive in each stretch of the history."""
    alive: dict[int, int] = {}
    live_bytes, place = 0, begun[0][0]
    for (_, name), (end, _) in pairwise(begun):
        peak_bytes = live_bytes
        for entry in entries[place:end]:
            if entry["action"] == _COMES:
                alive[entry["addr"]] = allocated(entry["size"])
                live_bytes += allocated(entry["size"])
                peak_bytes = max(peak_bytes, live_bytes)
            elif entry["action"] == _GOES:
                live_bytes -= alive.pop(entry["addr"], 0)
        place = end
        yield PhaseReading(name=name, peak_allocated_bytes=peak_bytes, resident_bytes=live_bytes)
