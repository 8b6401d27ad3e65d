"""What the formulas are held to: runs that other people measured and published."""

from statistics import median

import pytest

from planner.evidence.accuracy import Errors, endings, left_out, predictions
from planner.evidence.accuracy_report import REPORT_FILE, report

PUBLISHED_ROWS = 843


def test_every_published_row_is_planned_or_left_out_with_a_reason() -> None:
    planned, refused = predictions()
    assert len(planned) + len(refused) + len(endings()) + sum(left_out().values()) == PUBLISHED_ROWS


def test_the_median_error_of_the_allocated_peak_is_under_half_a_per_cent_on_transformers_5() -> None:
    planned, _ = predictions()
    errors = [abs(row.allocated_error) for row in planned if row.run.family == "fitcheck"]
    assert len(errors) == 49
    assert median(errors) <= 0.005


@pytest.mark.parametrize("run", endings(), ids=lambda run: run.id)
def test_no_run_that_survived_is_refused(run) -> None:
    assert not run.false_refusal


def test_the_committed_report_is_what_the_formulas_say_today() -> None:
    assert REPORT_FILE.read_text() == report(), "run make accuracy and commit planner/evidence/reports/accuracy.md"


def test_errors_count_the_dangerous_direction() -> None:
    errors = Errors.of("three runs", [-0.04, 0.01, 0.2])
    assert (errors.median, errors.worst, errors.under) == (0.04, 0.2, 1)
