"""What crossings drawn at random found, against recorded dry runs: the tensor of each is there now."""

import json
from pathlib import Path

import pytest

from planner.overheads.table import overheads
from tests.planner.step.recorded import Recorded, error_fraction
from tests.planner.step.tables.crossing_settings import all_settings

FILE = Path(__file__).parents[1] / "tables" / "recorded" / "crossings.jsonl"
ROWS = [Recorded(**row) for row in map(json.loads, FILE.read_text(encoding="utf-8").splitlines()) if "name" in row]
# Scalars and statistics of one number per token.
LEFT_FRACTION = 0.001


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_peak_of_a_crossed_step_is_the_dry_runs(row: Recorded) -> None:
    full = row.request.get("method") == "full"
    assert abs(error_fraction(row)) <= (overheads().formula_band("full").high if full else LEFT_FRACTION)


def test_recorded_requests_are_those_of_the_settings() -> None:
    assert {row.name: row.request for row in ROWS} == {line["name"]: line["request"] for line in all_settings()}
