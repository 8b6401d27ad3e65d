"""The formulas beside dry runs on several virtual cards: the peak of a step on rank 0."""

import json
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any

import pytest

from planner import plan
from planner.overheads.table import overheads
from planner.request.schema import Request
from tests.planner.parallel.record import FILE, SETTINGS

PHASES = {"forward": ("forward", "loss"), "backward": ("backward",), "optimizer": ("optimizer",)}


@dataclass(frozen=True)
class Row:
    name: str
    request: dict[str, Any]
    peaks: dict[str, int]

    @cache  # noqa: B019 (as many rows as there are settings)
    def foreseen(self) -> dict[str, int]:
        phases = {phase.name: phase.allocated_bytes for phase in plan(Request.parse(self.request)).phases}
        return {name: max(phases[part] for part in parts) for name, parts in PHASES.items()}

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def error(self) -> float:
        """Of the run's peak, as a fraction of what was recorded."""
        return max(self.foreseen().values()) / max(self.peaks.values()) - 1


ROWS = [Row(**json.loads(line)) for line in FILE.read_text(encoding="utf-8").splitlines()]


def test_every_setting_is_on_record() -> None:
    assert [row.name for row in ROWS] == [name for name, _, _ in SETTINGS]


def test_half_are_right_to_a_permille_and_the_worst_is_the_band() -> None:
    errors = [abs(row.error) for row in ROWS if row.request["gpus"] > 1]
    band = overheads().parallel_band()
    assert median(errors) <= 0.001
    assert max(errors) == pytest.approx(band.high, abs=0.00005)
    assert band.runs == len(errors)


def test_the_same_run_on_one_card_is_the_dry_runs_to_a_permille() -> None:
    (single,) = (row for row in ROWS if row.request["gpus"] == 1)
    assert single.error == pytest.approx(0, abs=0.001)


def test_ddp_is_the_dry_runs_to_a_permille() -> None:
    plain = [row for row in ROWS if "ddp" in row.request and not row.request["ddp"]]
    assert [row.name for row in plain if abs(row.error) > 0.001] == []
