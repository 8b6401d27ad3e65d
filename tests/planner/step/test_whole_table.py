"""Every dry run on record, whichever file it stands in: what labels and the formulas' own band are read off."""

import json
from statistics import median

from planner import plan
from planner.overheads.table import overheads
from planner.request.schema import Request
from planner.step.recorded.comparison import FILE, STANDING, STEP_PHASES
from tests.planner.step.compared import ERRORS_FILE, compared, entries, lines, peak_errors
from tests.planner.step.test_recorded_labels import step_labels


def test_the_committed_comparison_is_that_of_the_records() -> None:
    """Made again by `python -m tests.planner.step.compared`."""
    assert FILE.read_text(encoding="utf-8").splitlines() == list(lines(entries()))


def test_the_worst_peak_of_each_method_is_its_band() -> None:
    """Made again by the same program."""
    written = list(peak_errors())
    assert ERRORS_FILE.read_text(encoding="utf-8").splitlines() == written
    for method, line in zip(("qlora", "full"), map(json.loads, written), strict=True):
        band = overheads().formula_band(method)
        assert (band.high, band.runs) == (line["worst_error"], line["runs"])
        assert band.high <= 0.002
    assert median(abs(each.peak_fraction) for each in compared()) <= 0.0001


def test_nineteen_of_twenty_phases_are_equal_to_the_byte_and_all_but_a_few_to_a_permille() -> None:
    errors = [each.fraction(phase) for each in compared() for phase in STEP_PHASES]
    assert sum(error == 0 for error in errors) >= 0.95 * len(errors)
    assert sum(abs(error) <= 0.001 for error in errors) >= 0.99 * len(errors)
    assert max(map(abs, errors)) <= 0.003


def test_the_optimizers_phase_is_equal_to_the_byte_in_all_but_a_few() -> None:
    errors = [each.fraction("optimizer") for each in compared()]
    assert sum(error == 0 for error in errors) >= 0.99 * len(errors)


def test_what_is_there_before_a_step_is_the_dry_runs_to_the_byte() -> None:
    # What generates has its prompts on the card when its record begins.
    rows = [each for each in compared() if each.row.request["training"].get("objective") != "grpo"]
    assert [each.row.name for each in rows if each.differences_bytes[STANDING]] == []


def test_a_recorded_run_that_was_not_equal_says_how_far_it_was_off() -> None:
    furthest = max(compared(), key=lambda each: max(abs(each.fraction(phase)) for phase in STEP_PHASES))
    found = plan(Request.parse(furthest.row.request))
    assert found.comparison
    assert found.comparison.same_switches
    assert found.comparison.equal_phases < found.comparison.phases
    assert "compared" in step_labels(found)
    assert "the rest within 0." in found.comparison.sentence
