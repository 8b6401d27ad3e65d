"""How well dry runs hit published runs: the kept predictions, the errors, the median and the worst. No torch."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from planner.evidence.published import PublishedRun, published_runs
from planner.units import MIB

SCORES_FILE = Path(__file__).with_name("score.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the dry run of one published setting gave. Over several races of a threaded load these are medians."""

    id: str
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    reserved_range_bytes: tuple[int, int]
    races: int = 1

    def document(self) -> dict[str, Any]:
        """One line of `score.jsonl`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Score:
    """One run beside its prediction. Errors are fractions of what was measured."""

    run: PublishedRun
    prediction: Prediction

    @property
    def allocated_error(self) -> float:
        """Of `max_memory_allocated()`."""
        return self.prediction.peak_allocated_bytes / self.run.bytes - 1

    @property
    def reserved_error(self) -> float | None:
        """Of `max_memory_reserved()`, where the run read it."""
        measured = self.run.also.get("peak_reserved")
        return self.prediction.peak_reserved_bytes / measured - 1 if measured else None

    @property
    def measured_reserved_mib(self) -> float:
        """For people; 0 where it was not read."""
        return self.run.also.get("peak_reserved", 0) / MIB


def predictions(records: Path = SCORES_FILE) -> tuple[Prediction, ...]:
    """Every kept prediction; none when nothing was run yet."""
    if not records.exists():
        return ()
    rows = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    return tuple(Prediction(**{**row, "reserved_range_bytes": tuple(row["reserved_range_bytes"])}) for row in rows)


def scores(records: Path = SCORES_FILE) -> tuple[Score, ...]:
    """Predictions beside the runs they are of, in the order of the published file."""
    found = {prediction.id: prediction for prediction in predictions(records)}
    return tuple(Score(run, found[run.id]) for run in published_runs() if run.id in found)


def summary(rows: Sequence[Score]) -> tuple[str, ...]:
    """Median and worst error, allocated and reserved."""
    allocated = [abs(row.allocated_error) for row in rows]
    reserved = [abs(row.reserved_error) for row in rows if row.reserved_error is not None]
    return tuple(
        f"{name}: {len(errors)} runs, median {median(errors):.3%}, worst {max(errors):.3%}"
        for name, errors in (("allocated", allocated), ("reserved", reserved))
        if errors
    )
