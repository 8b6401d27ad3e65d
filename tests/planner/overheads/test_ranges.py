"""What runs on a card do to the ranges of later plans for it."""

from dataclasses import replace

import pytest

from planner.answer.plan import plan
from planner.catalog import find_gpu
from planner.gpu import CardRecord, Seen
from planner.overheads.ranges import card_context_band, narrowed
from planner.overheads.table import Band, context_band
from planner.request.schema import Request

CARD = find_gpu("rtx-4090")
GENERAL = Band(-0.10, 0.0, 0.20, "elsewhere", 49)


def seen(runs: int, low: float = -0.01, likely: float = 0.0, high: float = 0.02) -> Seen:
    return Seen(runs, low, likely, high)


def test_a_card_nobody_ran_on_has_the_general_range() -> None:
    assert narrowed(GENERAL, None, CARD) is GENERAL


@pytest.mark.parametrize(("runs", "high"), [(1, 0.02 + 0.18 * 48 / 50), (24, 0.11), (49, 0.02), (500, 0.02)])
def test_each_run_draws_the_range_in_by_one_part_of_the_general_ranges_runs_and_one(runs: int, high: float) -> None:
    assert narrowed(GENERAL, seen(runs), CARD).high == pytest.approx(high)


def test_what_was_seen_is_never_left_out_however_few_runs_saw_it() -> None:
    band = narrowed(GENERAL, seen(1, -0.5, 0.1, 0.6), CARD)
    assert (band.low, band.high) == (-0.5, 0.6)
    assert band.low < band.likely < band.high


def test_the_source_says_how_many_settings_and_how_much_is_still_the_general_range() -> None:
    assert narrowed(GENERAL, seen(24), CARD).source.endswith("RTX 4090 (50% of the range still elsewhere)")
    assert narrowed(GENERAL, seen(49), CARD).source == f"49 settings measured on {CARD.name}"


def test_the_context_read_on_this_very_card_is_the_likeliest_and_its_range_stays_open() -> None:
    general = context_band(CARD.compute_capability)
    own = round(general.likely)
    card = replace(CARD, context_bytes=own, record=CardRecord(context_bytes=Seen(1, own, own, own)))
    band = card_context_band(card)
    assert general.low < band.low < band.likely == own < band.high < general.high


@pytest.mark.parametrize("reserved", [Seen(60, -0.4, -0.3, -0.2), Seen(60, 0.2, 0.3, 0.4), Seen(3, -0.4, 0.0, 0.4)])
def test_whatever_runs_reserved_the_range_is_ordered_and_holds_what_is_alive(reserved: Seen) -> None:
    record = CardRecord(reserved=reserved, allocated=Seen(9, -0.05, 0.01, 0.03))
    request = Request.parse({"model": "Qwen/Qwen2.5-7B", "gpu": CARD.id})
    for size_gib in (4, 6, 8, 24):
        answer = plan(request, gpu=replace(CARD, record=record, usable_bytes=size_gib << 30))
        required = answer.required_bytes
        assert required.low <= required.likely <= required.high
        assert required.high >= answer.peak_allocated_bytes
