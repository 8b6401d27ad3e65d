"""The formulas held to what others measured: errors by source and metric, and verdicts against runs that ended.

Allocated is compared with allocated and process with process, never mixed. A process holds whatever the allocator
kept while memory was plentiful, which is what `required_bytes` says for a card with room to spare.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import median
from typing import Any

from planner.answer.plan import Plan, plan
from planner.errors import FitproofError
from planner.evidence.loaders import likely_bytes_as_loaded
from planner.evidence.publications.published import PublishedRun, published_runs
from planner.lazy_attribute import lazy_attribute
from planner.request.schema import Request


@dataclass(frozen=True)
class Prediction:
    """One published run and what `plan()` says of it. Its process is played when it is first asked for."""

    run: PublishedRun
    plan: Plan

    @property
    def allocated_error(self) -> float:
        """(predicted - measured) / measured, of the allocated peak."""
        return self.plan.peak_allocated_bytes / self.run.bytes - 1

    @lazy_attribute
    def process_error(self) -> float | None:
        """`likely`, loaded as its releases did, against the whole process as the driver saw it, if the run read it."""
        process = self.run.also.get("process")
        return likely_bytes_as_loaded(self.run, self.plan) / process - 1 if process else None

    @lazy_attribute
    def process_error_by_plan(self) -> float | None:
        """The same of the plan as it stands, which plays the loader of the releases it follows."""
        process = self.run.also.get("process")
        return self.plan.required_bytes.likely / process - 1 if process else None

    @property
    def above_high(self) -> bool:
        """The process took more than `high`."""
        return self.run.also.get("process", 0) > self.plan.required_bytes.high


@dataclass(frozen=True, slots=True)
class Errors:
    """How a set of predictions did."""

    name: str
    runs: int
    median: float
    worst: float
    under: int

    @classmethod
    def of(cls, name: str, errors: Sequence[float], tolerated: float = 0.03) -> "Errors":
        """`under` counts errors lower than `-tolerated`: the dangerous direction."""
        sizes = [abs(error) for error in errors]
        return cls(name, len(errors), median(sizes), max(errors, key=abs), sum(e < -tolerated for e in errors))


@dataclass(frozen=True, slots=True)
class Ending:
    """A run of which only its end is known: it survived on that card, or ran out of memory."""

    id: str
    request: Request
    survived: bool
    verdict: str
    source_url: str
    doubts: tuple[str, ...]

    @property
    def false_fits(self) -> bool:
        """We said fits; it died."""
        return self.verdict == "fits" and not self.survived

    @property
    def false_refusal(self) -> bool:
        """We said it does not fit; it ran."""
        return self.verdict == "does_not_fit" and self.survived


@cache
def predictions() -> tuple[tuple[Prediction, ...], tuple[tuple[str, str], ...]]:
    """Every published run that can be planned, and (id, reason) for each that cannot."""
    planned, refused = [], []
    for run in published_runs():
        try:
            planned.append(Prediction(run, plan(run.request)))
        except FitproofError as error:
            refused.append((run.id, error.title))
    return tuple(planned), tuple(refused)


def by_source(rows: Iterable[Prediction]) -> tuple[Errors, ...]:
    """Allocated errors per source."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        if row.run.metric == "peak_allocated":
            groups.setdefault(row.run.family, []).append(row.allocated_error)
    return tuple(Errors.of(f"{name}, peak allocated", errors) for name, errors in groups.items())


def processes(rows: Iterable[Prediction]) -> tuple[Errors, ...]:
    """Process errors of the runs that read their process: loaded as their releases did, and as the plan has it."""
    rows = tuple(rows)
    columns = (
        ("loaded as the run's releases did", [row.process_error for row in rows]),
        ("as planned", [row.process_error_by_plan for row in rows]),
    )
    known = [(name, [error for error in errors if error is not None]) for name, errors in columns]
    return tuple(
        Errors.of(f"Process total against `likely`, {name}", errors, tolerated=0.05) for name, errors in known if errors
    )


@cache
def endings() -> tuple[Ending, ...]:
    """Runs known only by their end, with our verdict."""
    rows = _records("fit_or_oom.jsonl")
    return tuple(_ending(row, Request.parse(row["request"])) for row in rows)


def left_out() -> dict[str, int]:
    """Published rows that no Request expresses: reason to count."""
    return dict(
        json.loads(files("planner.evidence.publications").joinpath("left_out.json").read_text(encoding="utf-8"))
    )


def _ending(row: dict[str, Any], request: Request) -> Ending:
    verdict = plan(request).verdict
    return Ending(row["id"], request, row["survived"], verdict, row["source_url"], tuple(row["doubts"]))


def _records(name: str) -> list[dict[str, Any]]:
    text = files("planner.evidence.publications").joinpath(name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]
