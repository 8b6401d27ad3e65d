"""A dry run takes two steps and tells the second again: what comes out is what really taking them all gives."""

import pytest

from planner.allocator import CachingAllocator
from planner.probe import run
from planner.probe.meters.events import Event
from planner.probe.replay import Replay, replay
from tests.probe.test_memo import SETTINGS
from tests.probe.tiny import request, watch

MANY = 100
STEPS = 4


def read(played: Replay) -> list[tuple[str, int, int]]:
    """Peak and resident bytes of each phase; what is there after the save is how the interpreter clears away."""
    return [
        (phase.name, phase.peak_allocated_bytes, phase.resident_bytes if phase.name != "save" else 0)
        for phase in played.phases
    ]


@pytest.mark.parametrize("parts", SETTINGS.values(), ids=SETTINGS.keys())
def test_steps_told_again_read_as_steps_taken(parts: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = request(**parts)  # type: ignore[arg-type]  # the builder's own keywords
    told = watch(asked, steps=STEPS)
    monkeypatch.setattr(run, "DISTINCT_STEPS", MANY)
    taken = watch(asked, steps=STEPS)
    assert count(told.events, "forward") == count(taken.events, "forward")
    assert sizes(told.events) == sizes(taken.events)
    assert read(replay(told.events, CachingAllocator())) == read(replay(taken.events, CachingAllocator()))


def count(events: list[Event], phase: str) -> int:
    return sum(event.action == "phase" and event.label == phase for event in events)


def sizes(events: list[Event]) -> list[int]:
    """Every allocation up to the save, in order."""
    end = next(index for index, event in enumerate(events) if event.label == "save")
    return [event.size_bytes for event in events[:end] if event.action == "alloc"]
