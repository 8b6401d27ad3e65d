"""The formula against recorded dry runs of the real stack, and the labels that follow from it."""

from collections import defaultdict
from statistics import median

import pytest

from planner.overheads.table import overheads
from tests.planner.step.recorded import Recorded, error_fraction, phase_errors, recorded
from tests.planner.step.tables.settings import all_settings

ROWS = recorded()
MEDIAN_FRACTION = 0.003


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_peak_of_a_step_is_the_dry_runs(row: Recorded) -> None:
    assert abs(error_fraction(row)) <= overheads().formula_band(row.request.get("method", "qlora")).high


def test_float32_products_under_autocast_are_equal_in_every_phase() -> None:
    (row,) = (row for row in ROWS if row.name == "llama trainer float32 compute")
    assert phase_errors(row) == [0, 0, 0]


def test_half_of_the_settings_agree_to_three_permille() -> None:
    assert median(abs(error_fraction(row)) for row in ROWS) <= MEDIAN_FRACTION


def test_the_table_is_large_and_knows_every_stack() -> None:
    by_stack = defaultdict(int)
    for row in ROWS:
        stack = row.request.get("stack", "trainer")
        by_stack[stack if isinstance(stack, str) else "custom"] += 1
    assert len(ROWS) >= 150
    assert {"trainer", "trl", "kbit", "loop"} <= by_stack.keys()


def test_recorded_requests_are_those_of_the_settings() -> None:
    wanted = {line["name"]: line["request"] for line in all_settings()}
    assert [row.name for row in ROWS if wanted.get(row.name) != row.request] == []
