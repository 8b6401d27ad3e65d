"""Variable lengths: steps recorded at different lengths, played one after the other on one model.

Each recording is a whole run at one length. The first one gives load, preparation and its own steps; from every other
one a steady step is taken. What a step leaves behind (a batch, a gradient) is freed when the step is over, as it would
be by the step that follows.
"""

from collections.abc import Iterable, Sequence

from planner.probe.meters.events import Event
from planner.probe.meters.meter import FIRST, STEP_PHASES


def played_in_turn(recordings: Sequence[Sequence[Event]], turns: Iterable[int]) -> list[Event]:
    """The first recording up to its first optimizer step, then one steady step of `recordings[turn]` for each turn.

    Put the longest first: a training run meets it sooner or later, and optimizer states appear in the first step.
    """
    played = _until_steady(recordings[0])
    steps = [_steady_step(recording) for recording in recordings]
    highest_block = max(event.block for recording in recordings for event in recording)
    for count, turn in enumerate(turns, start=1):
        played += _renumbered(steps[turn], count * (highest_block + 1))
    return played


def _until_steady(events: Sequence[Event]) -> list[Event]:
    """Load, preparation and the first step, without what that step leaves to the next one to free."""
    end = _first(events, STEP_PHASES[0])
    first_step = _first(events, FIRST + STEP_PHASES[0])
    freed_later = {event.block for event in events[end:] if event.action == "free"}
    left = [event.block for event in events[first_step:end] if event.action == "alloc" and event.block in freed_later]
    freed = {event.block for event in events[:end] if event.action == "free"}
    return [*events[:end], *(Event("free", block) for block in left if block not in freed)]


def _steady_step(events: Sequence[Event]) -> list[Event]:
    """One steady step that frees all it allocates and nothing else."""
    start = _first(events, STEP_PHASES[0])
    last = _first(events[start:], STEP_PHASES[-1]) + start
    ends = [i for i in range(last + 1, len(events)) if events[i].action == "phase"]
    step = list(events[start : ends[0] if ends else len(events)])
    own = {event.block for event in step if event.action == "alloc"}
    kept = [event for event in step if event.action != "free" or event.block in own]
    freed = {event.block for event in kept if event.action == "free"}
    left = [event.block for event in kept if event.action == "alloc" and event.block not in freed]
    return [*kept, *(Event("free", block) for block in left)]


def _renumbered(events: Iterable[Event], offset: int) -> list[Event]:
    return [event._replace(block=event.block + offset) if event.block else event for event in events]


def _first(events: Sequence[Event], phase: str) -> int:
    """Where `phase` begins.

    Raises:
        ValueError: it never does; the recording has no steady step.
    """
    for index, event in enumerate(events):
        if event.action == "phase" and event.label == phase:
            return index
    msg = f"the recording has no phase {phase!r}"
    raise ValueError(msg)
