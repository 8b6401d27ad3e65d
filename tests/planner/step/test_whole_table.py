"""Every dry run of SFT on record, whichever file it stands in: what the formulas' own band is read off."""

import json
from pathlib import Path
from statistics import median

import pytest

from planner.overheads.table import overheads
from tests.planner.step.recorded import Recorded, error_fraction, phase_errors, static_bytes

# Held to ranges of their own by test_preference.py.
OF_OTHERS = {Path(__file__).with_name(f"recorded_{name}.jsonl") for name in ("preference", "reward", "grpo")}


def rows() -> list[Recorded]:
    files = sorted(set(Path(__file__).parent.glob("recorded*.jsonl")) - OF_OTHERS)
    found = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [Recorded(**row) for row in found if "name" in row and "error" not in row]


def test_the_worst_peak_of_each_method_is_its_band() -> None:
    for method in ("full", "qlora"):
        chosen = [row for row in rows() if (row.request.get("method") == "full") == (method == "full")]
        errors = [abs(error_fraction(row)) for row in chosen]
        band = overheads().formula_band(method)
        assert median(errors) <= 0.0001
        assert max(errors) == pytest.approx(band.high, abs=0.00005)
        assert band.runs == len(errors)


def test_nine_of_ten_phases_are_equal_to_the_byte_and_all_but_a_few_to_a_permille() -> None:
    errors = [error for row in rows() for error in phase_errors(row)]
    assert sum(error == 0 for error in errors) >= 0.92 * len(errors)
    assert sum(abs(error) <= 0.001 for error in errors) >= 0.98 * len(errors)
    assert max(map(abs, errors)) <= 0.053


def test_what_is_there_before_a_step_is_the_dry_runs_to_the_byte() -> None:
    assert [row.name for row in rows() if static_bytes(row.request) != row.static_bytes] == []
