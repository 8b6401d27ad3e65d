from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest

from planner.answer.verdict import Estimate
from planner.catalog import find_gpu
from planner.errors import CatalogError
from planner.gpu import Gpu
from planner.overheads.table import Overheads, Replay, are_large, fragmentation_band, overheads, parse_overheads
from planner.units import GIB

CARD = find_gpu("rtx-4090")


def never() -> int:
    message = "the replay was not needed"
    raise AssertionError(message)


def estimate(
    peak_gib: float, reserved: Callable[[], int] = never, *, card: Gpu = CARD, varying: bool = False, **allocator: bool
) -> Estimate:
    return Estimate(round(peak_gib * GIB), reserved, card, varying_lengths=varying, **allocator)


def reserving(gib: float) -> Callable[[], int]:
    return lambda: round(gib * GIB)


def test_what_is_alive_at_once_beyond_the_card_does_not_fit_and_needs_no_replay() -> None:
    assert estimate(24).verdict() == "does_not_fit"


def test_what_survives_with_the_largest_holes_seen_fits_and_needs_no_replay() -> None:
    assert estimate(15).verdict() == "fits"


def test_in_between_it_is_tight_and_needs_no_replay() -> None:
    assert estimate(22).verdict() == "tight"


def test_large_pieces_leave_larger_holes() -> None:
    assert estimate(19.5).verdict() == "fits"
    assert estimate(19.5, large_pieces=True).verdict() == "tight"


@pytest.mark.parametrize(
    ("peak_gib", "reserved_gib"), [(10, 11), (15, 30), (20.5, 21.5), (20.5, 30), (23, 25), (24, 26)]
)
def test_the_verdict_is_what_the_range_says_and_the_range_is_ordered(peak_gib: float, reserved_gib: float) -> None:
    answer = estimate(peak_gib, reserving(reserved_gib))
    required, usable_bytes = answer.required(), CARD.usable_bytes
    assert required.low <= required.likely <= required.high
    assert (required.high <= usable_bytes) == (answer.verdict() == "fits")
    assert (required.low > usable_bytes) == (answer.verdict() == "does_not_fit")
    assert len(required.provenance) == 4


def test_with_room_to_spare_the_process_grows_to_what_the_allocator_reserves() -> None:
    required = estimate(10, reserving(13)).required()
    assert required.likely == 13 * GIB + round(overheads().context_band(CARD.compute_capability).likely)


def test_short_of_room_the_allocator_gives_back_and_the_process_takes_the_whole_card() -> None:
    assert estimate(15, reserving(30)).required().high == CARD.usable_bytes


def test_lengths_that_vary_never_are_enough_with_less() -> None:
    fixed, varying = (estimate(10, varying=flag) for flag in (False, True))
    assert varying.enough_bytes >= fixed.enough_bytes


def replays(*rows: tuple[float, bool, bool, bool]) -> Overheads:
    """By (fraction lost, expandable segments, varying lengths, large pieces)."""
    return Overheads(context=(), reserved=(), replays=tuple(Replay(*row) for row in rows))


TABLE = replays(
    (0.01, False, False, False),
    (0.02, False, False, False),
    (0.08, False, False, False),
    (0.11, False, True, False),
    (0.07, False, True, True),
    (0.015, True, False, False),
)


def test_fixed_lengths_lose_what_the_replays_lost() -> None:
    band = TABLE.fragmentation_band(varying_lengths=False)
    assert (band.low, band.likely, band.high) == (0.01, 0.02, 0.08)


def test_what_has_it_worse_never_has_the_narrower_range() -> None:
    varying = TABLE.fragmentation_band(varying_lengths=True)
    assert (varying.low, varying.likely, varying.high) == (0.01, 0.11, 0.11)
    large = TABLE.fragmentation_band(varying_lengths=True, large_pieces=True)
    assert (large.low, large.likely, large.high) == (0.01, 0.07, 0.11)


def test_expandable_segments_have_their_own_rows() -> None:
    assert TABLE.fragmentation_band(varying_lengths=False, expandable_segments=True).high == 0.015


def test_a_tensor_is_large_beside_the_peak_it_is_part_of() -> None:
    assert are_large(8, 100)
    assert not are_large(7, 100)


def test_the_shipped_replays_know_every_kind_of_run() -> None:
    for use in product((False, True), repeat=3):
        band = fragmentation_band(*use)
        assert band.low < band.likely < band.high < 0.31


def test_the_shipped_replays_favour_expandable_segments() -> None:
    default, expandable = (estimate(10, expandable_segments=flag) for flag in (False, True))
    assert expandable.smallest_bytes < default.smallest_bytes


def test_a_generation_nobody_read_gets_the_whole_range() -> None:
    everywhere = overheads().context_band((9, 9))
    turing = overheads().context_band((7, 5))
    assert (turing.low, turing.high) == (0.13 * GIB, 0.19 * GIB)
    assert everywhere.low == turing.low
    assert everywhere.high > 1.5 * GIB


def test_a_live_cards_own_context_replaces_its_generations() -> None:
    bare, live = (replace(CARD, context_bytes=size) for size in (0, 1 * GIB))
    without, with_context = (estimate(10, reserving(11), card=card).required() for card in (bare, live))
    assert {getattr(with_context, end) - getattr(without, end) for end in ("low", "likely", "high")} == {1 * GIB}


def test_a_row_with_an_unknown_key_is_named() -> None:
    with pytest.raises(CatalogError, match=r"\[\[context\]\] row 1 must have exactly these keys"):
        parse_overheads('[[context]]\ncard = "T4"\ngigabytes = 1\n')
