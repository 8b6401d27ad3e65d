"""Measured runs as a card's record: each beside its own plan."""

from typing import Any

import pytest

from planner.answer.plan import Plan, plan
from planner.catalog import find_gpu
from planner.evidence.cards import card_record, card_run
from planner.gpu import CardRecord
from planner.measurement import Measurement
from planner.overheads.table import fragmentation_band
from planner.request.schema import Request
from planner.units import MIB

CARD = find_gpu("h100-sxm-80gb")
CONTEXT_BYTES = 600 * MIB
# Of a small model, the logits are large beside the peak.
PLAIN = (False, False, True)


def asked(length: int = 512, **training: Any) -> dict[str, Any]:
    return {"model": "Qwen/Qwen2.5-0.5B", "gpu": "rtx-4090", "training": {"max_length": length, **training}}


def foreseen(request: dict[str, Any]) -> Plan:
    return plan(Request.parse(request | {"gpu": CARD.id}))


def measured(request: dict[str, Any], allocated: float = 0.0, reserved: float = 0.0, **changes: Any) -> Measurement:
    """A run that took so much more than was foreseen."""
    answer = foreseen(request)
    return Measurement.model_validate(
        {
            "instrument": "cuda",
            "outcome": "ok",
            "peak_allocated_bytes": round(answer.peak_allocated_bytes * (1 + allocated)),
            "peak_reserved_bytes": round(answer.estimate.reserved_bytes() * (1 + reserved)),
            "context_bytes": CONTEXT_BYTES,
            "phases": [],
            "steps": 3,
            "tokens_per_micro_batch": 512,
            "device": {"name": CARD.name, "total_memory_bytes": CARD.usable_bytes},
            "versions": {"torch": "2.14.1"},
            "request": request,
        }
        | changes
    )


def record_of(*measurements: Measurement) -> CardRecord | None:
    return card_record(run for each in measurements if (run := card_run(each, CARD)))


def test_runs_of_different_settings_are_held_to_the_plan_for_the_card_they_ran_on() -> None:
    record = record_of(measured(asked(512), 0.002, 0.01), measured(asked(640), -0.004, -0.02))
    assert record is not None
    assert record.allocated is not None
    assert (record.allocated.runs, record.allocated.low, record.allocated.high) == pytest.approx((2, -0.004, 0.002))
    assert record.reserved is not None
    assert (record.reserved.low, record.reserved.high) == pytest.approx((-0.02, 0.01))
    assert record.context_bytes is not None
    assert record.context_bytes.likely == CONTEXT_BYTES


def test_repeats_of_one_setting_count_once_with_all_they_spread() -> None:
    record = record_of(measured(asked(), 0.001), measured(asked(), 0.003), measured(asked() | {"gpu": "a100-80gb-sxm"}))
    assert record is not None
    assert record.allocated is not None
    assert (record.allocated.runs, record.allocated.high) == (1, pytest.approx(0.003))


def test_short_of_room_a_run_says_nothing_of_what_runs_reserve_with_room() -> None:
    limit_bytes = foreseen(asked()).estimate.reserved_bytes() + CONTEXT_BYTES
    record = record_of(measured(asked(), reserved=-0.1, memory_limit_bytes=limit_bytes))
    assert record is not None
    assert record.reserved is None
    assert record.allocated is not None


def test_what_a_run_reserved_was_surely_enough_but_a_loose_bound_proves_no_loss() -> None:
    general = fragmentation_band(*PLAIN).high
    for more, lost in ((0.01, 0.01), (0.5, general)):
        reserved_bytes = round(foreseen(asked()).peak_allocated_bytes * (1 + more))
        record = record_of(measured(asked(), peak_reserved_bytes=reserved_bytes))
        assert record is not None
        assert dict(record.lost)[PLAIN].high == pytest.approx(lost)


def test_a_searched_smallest_card_counts_without_its_context_even_beyond_the_range() -> None:
    smallest_bytes = round(foreseen(asked()).peak_allocated_bytes * 1.5) + CONTEXT_BYTES
    record = record_of(measured(asked(), smallest_capacity_bytes=smallest_bytes))
    assert record is not None
    assert dict(record.lost)[PLAIN].high == pytest.approx(0.5)


def test_a_death_that_the_range_would_have_let_live_widens_it_and_a_foreseen_one_does_not() -> None:
    peak_bytes = foreseen(asked()).peak_allocated_bytes
    for room, widened in ((1.6, True), (1.0, False)):
        limit_bytes = round(peak_bytes * room) + CONTEXT_BYTES
        record = record_of(measured(asked(), outcome="out_of_memory", memory_limit_bytes=limit_bytes))
        assert record is not None
        assert record.allocated is None
        assert bool(record.lost) == widened
    assert record_of(measured(asked(), outcome="out_of_memory")) == CardRecord()


def test_other_stacks_instruments_and_unknown_models_say_nothing() -> None:
    older, dry = measured(asked(), versions={"torch": "2.4.1"}), measured(asked(), instrument="dry-run")
    strange = measured(asked()).model_copy(update={"request": asked() | {"model": "nobody/knows-this"}})
    nothing = measured(asked(), peak_allocated_bytes=0)
    assert record_of(older, dry, strange, nothing) is None


def test_another_use_of_the_allocator_has_a_range_of_its_own() -> None:
    record = record_of(measured(asked(expandable_segments=True)), measured(asked()))
    assert record is not None
    assert {use for use, _ in record.lost} == {PLAIN, (False, True, True)}
