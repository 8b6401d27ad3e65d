"""Every dry run on record, whichever file it stands in: what the formulas' own band is read off."""

import json
from pathlib import Path
from statistics import median

import pytest

from planner.overheads.table import overheads
from tests.planner.step.recorded import Recorded, error_fraction, static_bytes


def rows() -> list[Recorded]:
    files = sorted(Path(__file__).parent.glob("recorded*.jsonl"))
    found = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [Recorded(**row) for row in found if "name" in row and "error" not in row]


def test_half_are_right_to_three_permille_and_the_worst_is_the_band() -> None:
    errors = [abs(error_fraction(row)) for row in rows()]
    band = overheads().formula_band()
    assert median(errors) <= 0.003
    assert max(errors) == pytest.approx(band.high, abs=0.00005)
    assert band.runs == len(errors)


def test_what_is_there_before_a_step_is_the_dry_runs_to_the_byte() -> None:
    assert [row.name for row in rows() if static_bytes(row.request) != row.static_bytes] == []
