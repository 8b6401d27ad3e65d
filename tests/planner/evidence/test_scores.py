"""The score of the dry run against published runs, kept as records, held to its bounds."""

from statistics import median

import pytest

from planner.evidence.scores import predictions, scores, summary


@pytest.fixture(scope="module")
def rows():
    return scores()


def test_every_fitcheck_run_has_a_prediction(rows):
    assert sum(row.run.family == "fitcheck" for row in rows) == 49


def test_allocated_bytes_are_hit_to_half_a_percent_and_in_the_median_to_a_tenth(rows):
    errors = [abs(row.allocated_error) for row in rows if row.run.family == "fitcheck"]
    assert median(errors) <= 0.001
    assert max(errors) <= 0.005


def test_the_trainers_of_fms_acceleration_are_hit_to_a_ten_thousandth(rows):
    errors = [abs(row.allocated_error) for row in rows if row.run.family.startswith("fms")]
    assert len(errors) == 6
    assert max(errors) <= 0.0001


def test_reserved_bytes_are_hit_to_six_percent_and_in_the_median_to_one(rows):
    errors = [abs(row.reserved_error) for row in rows if row.reserved_error is not None]
    assert median(errors) <= 0.01
    assert max(errors) <= 0.06


def test_where_no_race_decides_reserved_bytes_are_hit_to_a_third_of_a_percent_and_mostly_exactly(rows):
    alone = [row for row in rows if row.prediction.races == 1 and row.reserved_error is not None]
    errors = [abs(row.reserved_error) for row in alone]
    assert len(errors) == 20
    assert sum(error == 0 for error in errors) >= 17
    assert max(errors) < 0.003


def test_what_was_reserved_lies_among_the_races_that_may_happen(rows):
    raced = [row for row in rows if row.prediction.races > 1]
    inside = [
        low <= row.run.also["peak_reserved"] <= high
        for row in raced
        for low, high in [row.prediction.reserved_range_bytes]
    ]
    assert sum(inside) >= len(raced) - 1


def test_the_summary_names_how_many_runs_it_is_of(rows):
    assert summary(rows)[0].startswith(f"allocated: {len(rows)} runs")


def test_no_records_is_no_score(tmp_path):
    assert predictions(tmp_path / "none.jsonl") == ()
    assert summary(()) == ()
