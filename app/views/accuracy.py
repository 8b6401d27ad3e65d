"""How right the formulas are: every reading that can be planned, predicted against measured, nothing left out."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from statistics import median

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.drawing.scatter import Scatter, draw_scatter
from app.forms.plan_form import query_of
from app.jobs.dispatch.scheduling import card_named
from app.templating import page
from app.views.plan_question import facts_of
from planner.answer.plan import plan
from planner.catalog.model_rows import model_catalog
from planner.errors import FitproofError
from planner.evidence.publications.published import published_runs
from planner.measurement import Measurement
from planner.model.model import resolve_model
from planner.request.schema import Request as PlanRequest

router = APIRouter(include_in_schema=False)

# Who published what, in words. Others are shown under their own name.
_SOURCES = {
    "fitcheck": "fitcheck, one T4, transformers 5",
    "fms": "IBM foundation-model-stack, A100, transformers 4.48",
    "fms-hist": "IBM foundation-model-stack, older runs",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One run: what was measured and what the formulas say, of the same quantity."""

    label: str
    query: str
    measured_bytes: int
    predicted_bytes: int

    @property
    def error(self) -> float:
        """(predicted - measured) / measured."""
        return self.predicted_bytes / self.measured_bytes - 1


@dataclass(frozen=True, slots=True)
class Group:
    """Readings of one source. `unplanned` could not be planned, for the reasons given; `kind` is what was read."""

    name: str
    readings: tuple[Reading, ...]
    unplanned: tuple[str, ...]
    kind: str = "allocated"

    @property
    def median(self) -> float:
        """Median size of the error."""
        return median(abs(reading.error) for reading in self.readings)

    @property
    def worst(self) -> float:
        """Largest error, with its sign."""
        return max((reading.error for reading in self.readings), key=abs)

    @property
    def within(self) -> int:
        """Readings that the formulas hit within two per cent."""
        return sum(abs(reading.error) <= 0.02 for reading in self.readings)

    @property
    def worst_first(self) -> list[Reading]:
        """The readings to be ashamed of on top."""
        return sorted(self.readings, key=lambda reading: -abs(reading.error))


@router.get("/accuracy")
async def accuracy(request: Request) -> HTMLResponse:
    """Every published and every own reading against the formulas, worst first."""
    groups = [*committed_groups(), *_here(request)]
    scatter = overview(groups)
    return page(request, "pages/accuracy.html", groups=groups, scatter=scatter, families=families())


@lru_cache(maxsize=1)
def committed_groups() -> tuple[Group, ...]:
    """What the package carries: other people's measurements, then our own dry runs. Worked out once."""
    runs: dict[str, list[tuple[str, PlanRequest, int]]] = {}
    for run in published_runs():
        if run.metric == "peak_allocated":
            runs.setdefault(run.family, []).append((run.id, run.request, run.bytes))
    groups = [_group(_SOURCES.get(family, family), rows) for family, rows in runs.items()]
    groups.append(_group("fitcheck, the whole process", _processes(), "process"))
    own = [_group("Our dry runs of the real stack", _dry_runs())]
    return tuple(group for group in (*groups, *own) if group.readings or group.unplanned)


def overview(groups: Iterable[Group]) -> Scatter:
    """All readings in one picture."""
    return draw_scatter(
        (reading.measured_bytes, reading.predicted_bytes, group.kind, f"{group.name}: {reading.label}")
        for group in groups
        for reading in group.readings
    )


@lru_cache(maxsize=1)
def families() -> dict[str, tuple[int, bool]]:
    """Each architecture of the catalogue: how many models, and whether the formulas know it."""
    rows = [(row.model_type, row.id) for row in model_catalog().rows.values()]
    counts = Counter(model_type for model_type, _ in rows)
    known = {model_type: _is_known(model_id) for model_type, model_id in dict(rows).items()}
    names = sorted(counts, key=lambda name: (not known[name], -counts[name], name))
    return {name: (counts[name], known[name]) for name in names}


def _here(request: Request) -> list[Group]:
    """What was measured on this installation's own cards."""
    rows = [_on_its_card(measurement) for measurement in facts_of(request).own_runs() if measurement.outcome == "ok"]
    return [_group("Measured on this installation", rows)] if rows else []


def _processes() -> Iterable[tuple[str, PlanRequest, int]]:
    """Runs that read what the driver saw of their process, against what a plan says is likely needed."""
    for run in published_runs():
        if process := run.also.get("process"):
            yield run.id, run.request, process


def _group(name: str, rows: Iterable[tuple[str, PlanRequest, int]], kind: str = "allocated") -> Group:
    readings, unplanned = [], []
    for label, request, measured_bytes in rows:
        try:
            planned = plan(request)
        except FitproofError as error:
            unplanned.append(f"{label}: {error.title}")
            continue
        query = query_of(request.model_dump(mode="json"))
        predicted = planned.required_bytes.likely if kind == "process" else planned.peak_allocated_bytes
        readings.append(Reading(label, query, measured_bytes, predicted))
    return Group(name, tuple(readings), tuple(unplanned), kind)


def _dry_runs() -> list[tuple[str, PlanRequest, int]]:
    folder = files("planner.evidence")
    rows = []
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not (file.name.startswith("measured-") and file.name.endswith(".jsonl")):
            continue
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            measurement = Measurement.model_validate(record["measurement"])
            if measurement.outcome == "ok":
                rows.append(_row(str(record["id"]), measurement))
    return rows


def _on_its_card(measurement: Measurement) -> tuple[str, PlanRequest, int]:
    """As `_row`, planned for the card it ran on: it may have played a smaller one."""
    label, request, measured_bytes = _row(measurement.device.name, measurement)
    card = card_named(measurement.device.name)
    return label, request.model_copy(update={"gpu": card}) if card else request, measured_bytes


def _row(label: str, measurement: Measurement) -> tuple[str, PlanRequest, int]:
    return label, PlanRequest.parse(measurement.request), measurement.peak_allocated_bytes


def _is_known(model_id: str) -> bool:
    try:
        resolve_model(model_id).known_decoder()
    except FitproofError:
        return False
    return True
