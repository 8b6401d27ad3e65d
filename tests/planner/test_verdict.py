from dataclasses import replace

import pytest

from planner.catalog import find_gpu
from planner.errors import CatalogError
from planner.overheads import Overheads, overheads, parse_overheads
from planner.units import GIB
from planner.verdict import Required, required_bytes, verdict_of

CARD = find_gpu("rtx-4090")
NEED = Required(low=90, likely=100, high=110, provenance=())


@pytest.mark.parametrize(
    ("usable_bytes", "verdict"), [(89, "does_not_fit"), (90, "tight"), (109, "tight"), (110, "fits"), (111, "fits")]
)
def test_only_both_ends_of_the_range_decide(usable_bytes: int, verdict: str) -> None:
    assert verdict_of(NEED, usable_bytes) == verdict


def test_the_range_is_ordered_and_says_what_it_was_read_off() -> None:
    required = required_bytes(10 * GIB, CARD, varying_lengths=False)
    assert 10 * GIB < required.low < required.likely < required.high
    assert len(required.provenance) == 3


def test_lengths_that_vary_need_more() -> None:
    fixed, varying = (required_bytes(10 * GIB, CARD, varying_lengths=flag) for flag in (False, True))
    assert varying.likely > fixed.likely
    assert varying.high > fixed.high


def replays(*rows: tuple[str, str, bool, int]) -> Overheads:
    """Replays of 1,000 MiB, by (allocator, lengths, load block, smallest capacity in MiB)."""
    tables = [
        f'[[fragmentation]]\nsetting = "one"\nallocator = "{allocator}"\nlengths = "{lengths}"\n'
        f'load_block = {str(block).lower()}\nallocated_mib = 1000\ncapacity_mib = {capacity}\nsource = "a replay"\n'
        for allocator, lengths, block, capacity in rows
    ]
    return parse_overheads("context = []\nformula = []\n" + "\n".join(tables))


TABLE = replays(
    ("default", "fixed", False, 1010),
    ("default", "fixed", True, 1020),
    ("default", "fixed", True, 1050),
    ("default", "fixed", True, 1080),
    ("default", "varying", True, 1110),
    ("expandable_segments", "fixed", True, 1015),
)


def test_fixed_lengths_lose_what_the_replays_lost() -> None:
    band = TABLE.fragmentation_band(varying_lengths=False)
    assert (band.low, band.likely, band.high) == pytest.approx((0.01, 0.05, 0.08))


def test_varying_lengths_are_widened_by_the_spread_between_models() -> None:
    band = TABLE.fragmentation_band(varying_lengths=True)
    assert (band.low, band.likely, band.high) == pytest.approx((0.01, 0.11, 0.11 + 0.06))


def test_expandable_segments_have_their_own_rows_whatever_the_lengths() -> None:
    bands = [TABLE.fragmentation_band(varying_lengths=flag, expandable_segments=True) for flag in (False, True)]
    assert [band.high for band in bands] == pytest.approx([0.015, 0.015])


def test_the_shipped_replays_favour_expandable_segments() -> None:
    default, expandable = (
        required_bytes(10 * GIB, CARD, varying_lengths=False, expandable_segments=flag) for flag in (False, True)
    )
    assert expandable.high < default.high


def test_a_generation_nobody_read_gets_the_whole_range() -> None:
    everywhere = overheads().context_band((9, 9))
    turing = overheads().context_band((7, 5))
    assert (turing.low, turing.high) == (0.13 * GIB, 0.19 * GIB)
    assert everywhere.low == turing.low
    assert everywhere.high > 1.5 * GIB


def test_a_live_cards_own_context_replaces_its_generations() -> None:
    bare, live = (replace(CARD, context_bytes=size) for size in (0, 1 * GIB))
    without, with_context = (required_bytes(10 * GIB, card, varying_lengths=False) for card in (bare, live))
    assert {getattr(with_context, end) - getattr(without, end) for end in ("low", "likely", "high")} == {1 * GIB}


def test_a_row_with_an_unknown_key_is_named() -> None:
    with pytest.raises(CatalogError, match=r"\[\[context\]\] row 1 must have exactly these keys"):
        parse_overheads('[[context]]\ncard = "T4"\ngigabytes = 1\n')
