"""`make crossings`: what it draws, and what it says of a setting whose dry run is there."""

from dataclasses import replace
from itertools import islice

from tests.planner.step.compared import ComparedRow, compared_row
from tests.planner.step.crossings.__main__ import NotRun, is_off, line, summary
from tests.planner.step.crossings.drawing import crossings
from tests.planner.step.recorded import formula, recorded

EQUAL = next(row for row in recorded() if row.name == "llama trainer float32 compute")


def spoiled(fraction: float) -> ComparedRow:
    """A dry run whose backward phase was so much larger than it really was."""
    phases = {**EQUAL.phases, "backward": round(EQUAL.phases["backward"] * (1 + fraction))}
    return compared_row(replace(EQUAL, name="spoiled", phases=phases))


def test_equal_seeds_draw_equal_settings_and_others_do_not() -> None:
    first, again, other = (list(islice(crossings(seed), 3)) for seed in ("1", "1", "2"))
    assert first == again
    assert first != other


def test_every_setting_drawn_is_one_that_the_formula_answers() -> None:
    assert all(formula(setting["request"]) for setting in islice(crossings("3"), 5))


def test_a_setting_is_off_from_three_permille_on_and_says_where() -> None:
    equal, near, off = compared_row(EQUAL), spoiled(0.002), spoiled(0.02)
    assert [is_off(row) for row in (equal, near, off)] == [False, False, True]
    assert line("a", equal) == "equal   a"
    assert line("a", near).startswith("near    a: backward -0.200%")
    assert line("a", off).startswith("off     a: backward -1.961%")


def test_a_setting_that_only_the_formula_answers_is_off_too() -> None:
    refused = NotRun("no such kernel")
    assert is_off(refused)
    assert line("a", refused) == "not run a: no such kernel"
    assert summary([refused]) == "1 settings: 0 equal to the byte in every phase, 1 off"


def test_the_summary_counts_settings_and_phases_and_names_the_worst() -> None:
    told = summary([compared_row(EQUAL), spoiled(0.02)])
    assert told.startswith("2 settings: 1 equal to the byte in every phase, 1 off\n9 of 10 phases equal;")
    assert told.endswith("worst -1.96% (backward of spoiled)")
