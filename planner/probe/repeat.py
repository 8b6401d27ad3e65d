"""A steady step that was recorded once, told again: fake tensors make every later step the same, block for block."""

from collections.abc import Sequence

from planner.probe.meters.events import Event
from planner.probe.meters.meter import SAVE, STEP_PHASES

# The first step, in which optimizer states appear, and the steady one.
DISTINCT_STEPS = 2


def repeated(events: Sequence[Event], times: int) -> list[Event]:
    """The stream of a first and a steady step and what follows, with the steady step told `times` more.

    What a step leaves behind (its loss, its batch) the next one frees, as the steady step freed what the first one
    left. Where the steady step does not leave as many blocks as it took over it is no model of the next, and the
    stream stays as it was recorded.
    """
    start, end = _phase(events, STEP_PHASES[0]), _phase(events, SAVE)
    made = [event.block for event in events[start:end] if event.action == "alloc"]
    own = set(made)
    last = max(index for index in range(start, end) if events[index].action != "free" or events[index].block in own)
    # What follows is no part of the step: training is over and the optimizer lets its states go.
    step, rest = events[start : last + 1], events[last + 1 :]
    freed = {event.block for event in step if event.action == "free"}
    stride = max(event.block for event in events) + 1
    taken_over = sorted(freed - own)
    left = [block for block in made if block not in freed]
    if len(taken_over) != len(left):
        return list(events)
    heirs = dict(zip(taken_over, left, strict=True))

    def told(part: Sequence[Event], count: int) -> list[Event]:
        """`part` in the words of repetition `count`."""
        names = {block: block + count * stride for block in own}
        names |= {before: after + (count - 1) * stride for before, after in heirs.items()}
        return [event._replace(block=names.get(event.block, event.block)) for event in part]

    played = list(events[: last + 1])
    for count in range(1, times + 1):
        played += told(step, count)
    return [*played, *_renamed(rest, {block: block + times * stride for block in left})]


def _renamed(events: Sequence[Event], names: dict[int, int]) -> list[Event]:
    return [event._replace(block=names.get(event.block, event.block)) for event in events]


def _phase(events: Sequence[Event], name: str) -> int:
    return events.index(Event("phase", label=name))
