"""Formula, dry run and measurement side by side: the committed report, and how far apart the first two may be."""

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from planner.evidence.compared import Compared, compared
from planner.evidence.side_by_side import ALLOCATED, REPORT_FILE, RESERVED, SMALLEST, Metric, lines, report

ROWS = compared()


def test_the_committed_report_is_what_the_records_and_the_formulas_say_today() -> None:
    assert REPORT_FILE.read_text(encoding="utf-8") == report(ROWS)


@pytest.mark.parametrize(
    ("metric", "half", "most"),
    # The smallest allocator is torch's own on a virtual card, bisected to 64 MiB. For TinyLlama torch gets by with 3 %
    # less than the formula's play of its rules; why is not known yet.
    [(ALLOCATED, 0.0005, 0.02), (RESERVED, 0.0006, 0.0145), (SMALLEST, 0.01, 0.03)],
    ids=lambda value: value.name if isinstance(value, Metric) else "",
)
def test_the_formula_is_near_the_dry_run_of_every_setting(metric: Metric, half: float, most: float) -> None:
    errors = [abs(line.difference) for line in lines(metric, ROWS) if line.difference is not None]
    assert median(errors) <= half
    assert max(errors) <= most


def test_every_setting_of_the_matrix_has_a_dry_run() -> None:
    assert [row.id for row in ROWS if row.measured.dry_run is None] == []


def test_the_formula_never_calls_fitting_what_a_dry_run_ran_out_of_nor_the_other_way_round() -> None:
    for row in ROWS:
        if row.cap is not None and row.measured.dry_run is not None:
            wrong = "fits" if row.measured.dry_run.outcome == "out_of_memory" else "does_not_fit"
            assert row.verdict != wrong, row.id


REQUEST = {"model": "HuggingFaceTB/SmolLM2-135M", "gpu": "h100-sxm-80gb", "training": {"max_length": 512}}


def measurement(instrument: str, **more: Any) -> dict[str, Any]:
    return {
        "instrument": instrument, "outcome": "ok", "peak_allocated_bytes": 1 << 30, "peak_reserved_bytes": 3 << 29,
        "phases": [], "steps": 3, "tokens_per_micro_batch": 512, "device": {"name": "a card"}, "versions": {},
        "request": {}, **more,
    }  # fmt: skip


def written(folder: Path, options: list[str], **records: dict[str, Any]) -> tuple[Compared, ...]:
    """A matrix of one setting, and its records by instrument."""
    row = {"id": "one", "why": "to show", "options": options}
    (folder / "matrix.jsonl").write_text(json.dumps(row | {"request": REQUEST}))
    for name, read in records.items():
        line = json.dumps(row | {"date": "2026-11-25", "measurement": read})
        (folder / f"measured-{name.replace('_', '-')}.jsonl").write_text(line)
    return compared(folder)


def test_what_no_card_measured_says_so_and_is_compared_with_nothing(tmp_path: Path) -> None:
    shown = report(written(tmp_path, [], dry_run=measurement("dry-run")))
    allocated = next(line for line in shown.splitlines() if line.startswith("| one |"))
    assert "1,024.0" in allocated
    assert allocated.endswith("| - not measured | - | - |")
    assert "* CUDA: not measured" in shown


def test_a_cards_record_stands_beside_the_dry_runs_metric_by_metric(tmp_path: Path) -> None:
    card = measurement("cuda", peak_allocated_bytes=1 << 29, peak_reserved_bytes=3 << 29)
    shown = report(written(tmp_path, [], dry_run=measurement("dry-run"), cuda=card))
    allocated, reserved = (line for line in shown.splitlines() if line.startswith("| one |"))
    assert allocated.endswith("| +100.00% |")
    assert reserved.endswith("| +0.00% |")


def test_a_setting_without_a_dry_run_is_named(tmp_path: Path) -> None:
    shown = report(written(tmp_path, []))
    assert "- not run" in shown
    assert "no dry run of one" in shown


def test_a_run_that_died_under_its_cap_is_an_end_and_no_peak(tmp_path: Path) -> None:
    died = measurement("dry-run", outcome="out_of_memory", failed_phase="first_backward")
    shown = report(written(tmp_path, ["--memory-limit", "1GiB"], dry_run=died))
    assert [line for line in shown.splitlines() if line.startswith("| one |")] == [
        "| one | 1GiB | tight | out of memory (first_backward) | - not measured |"
    ]
