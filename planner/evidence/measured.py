"""What the probe itself measured: the records of the evidence matrix, and what the allocator needed. No torch."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.measurement import Instrument, Measurement

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Record:
    """One setting of the matrix, measured."""

    id: str
    why: str
    options: tuple[str, ...]
    date: str
    measurement: Measurement

    @property
    def reserved_over_allocated(self) -> float | None:
        """How much more the allocator held than the tensors needed, with memory in plenty."""
        reserved_bytes = self.measurement.peak_reserved_bytes
        return reserved_bytes / self.measurement.peak_allocated_bytes if reserved_bytes else None

    @property
    def smallest_over_allocated(self) -> float | None:
        """How much more the smallest surviving allocator needs than the tensors do."""
        smallest_bytes = smallest_allocator_bytes(self.measurement)
        return smallest_bytes / self.measurement.peak_allocated_bytes if smallest_bytes else None


def smallest_allocator_bytes(measurement: Measurement) -> int | None:
    """The smallest card that survives, less its context where one was read; None where it was not searched for."""
    smallest_bytes = measurement.smallest_capacity_bytes
    return smallest_bytes - (measurement.context_bytes or 0) if smallest_bytes else None


def records(instrument: Instrument, folder: Path = FOLDER) -> tuple[Record, ...]:
    """Measured settings in the order they were run; failures are left out. None where the matrix was not run."""
    path = folder / f"measured-{instrument}.jsonl"
    if not path.exists():
        return ()
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(_records(json.loads(line) for line in lines if line))


def _records(rows: Iterable[dict[str, Any]]) -> Iterable[Record]:
    for row in rows:
        if row["measurement"] is not None:
            measurement = Measurement.model_validate(row["measurement"])
            yield Record(row["id"], row["why"], tuple(row["options"]), row["date"], measurement)
