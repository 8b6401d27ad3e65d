"""Loading as other releases did it, made from the stream that the installed one was recorded with.

The installed transformers loads one parameter at a time when it quantizes on the way (core_model_loading.py, "When
doing on-the-fly quantization, we also use sync loading"), behind one warm-up block, and the installed peft empties the
cache after its float32 casts. Other habits leave other holes in the allocator, and so other block slack:

`by_threads`      transformers 5.0: a pool of min(4, CPU cores) threads copies parameters to the device, in the order
                  of their names, while the main thread quantizes them in the same order. Which copy is ahead is a
                  race; it is played with a seeded chance, so each seed is one of the runs that may happen.
`without_warmup`  transformers before 4.50, and a model loaded in host memory and then moved, `model.to("cuda")`.
`keeping_cache`   peft before 0.20: `prepare_model_for_kbit_training` leaves the cache alone.
"""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.probe.meters.events import Event
from planner.probe.meters.meter import LOAD

_COPY = "aten.empty.memory_format"  # what a parameter's copy on the device is born as
# transformers/core_model_loading.py, GLOBAL_WORKERS = min(4, os.cpu_count() or 4).
THREADS = 4


@dataclass(slots=True)
class _Parameter:
    """One parameter's life: its copy on the device, then what the main thread makes of it."""

    copy: Event
    rest: list[Event] = field(default_factory=list)


def by_threads(events: Sequence[Event], seed: int, workers: int = THREADS) -> list[Event]:
    """Let `workers` threads copy ahead of the main thread; `seed` decides the race."""
    head, parameters, tail = _split(events)
    return [*head, *_race(parameters, workers, random.Random(seed)), *tail]  # noqa: S311  # a simulation


def without_warmup(events: Sequence[Event]) -> list[Event]:
    """One parameter after the other, and no block of the whole model's size before them."""
    head, _, _ = _split(events)
    block = {event for event in head if event.action != "phase"}
    return [event for event in events if event not in block]


def keeping_cache(events: Sequence[Event]) -> list[Event]:
    """Without the calls of `torch.cuda.empty_cache()`."""
    return [event for event in events if event.action != "empty_cache"]


def _split(events: Sequence[Event]) -> tuple[list[Event], list[_Parameter], list[Event]]:
    """What comes before the first copy, the copies with what follows each, and the phases after the load."""
    head: list[Event] = []
    parameters: list[_Parameter] = []
    end = next(i for i, event in enumerate(events) if event.action == "phase" and event.label not in ("", LOAD))
    for event in events[:end]:
        if event.action == "alloc" and event.label == _COPY:
            parameters.append(_Parameter(event))
        elif parameters:
            parameters[-1].rest.append(event)
        else:
            head.append(event)
    return head, parameters, list(events[end:])


def _race(parameters: Sequence[_Parameter], workers: int, chance: random.Random) -> list[Event]:
    """Play the threads against the main thread; the result holds every event once."""
    played: list[Event] = []
    queue: list[tuple[float, int, str, int]] = []  # (time, order of scheduling, what, parameter)
    copied: set[int] = set()
    taken = consumed = scheduled = 0

    def schedule(time: float, what: str, index: int) -> None:
        nonlocal scheduled
        scheduled += 1
        heapq.heappush(queue, (time, scheduled, what, index))

    def take(time: float) -> None:
        nonlocal taken
        if taken < len(parameters):
            schedule(time + _half_a_copy(parameters[taken], chance), "ask", taken)
            taken += 1

    for _ in range(workers):
        take(0.0)
    while queue:
        time, _, what, index = heapq.heappop(queue)
        if what == "ask":
            played.append(parameters[index].copy)
            schedule(time + _half_a_copy(parameters[index], chance), "done", index)
            continue
        copied.add(index)
        take(time)
        while consumed in copied:
            played.extend(parameters[consumed].rest)
            consumed += 1
    return played


def _half_a_copy(parameter: _Parameter, chance: random.Random) -> float:
    """How long half of one copy takes: its bytes' worth on average, with nothing else known.

    Half of a copy (reading the file) comes before the device memory is asked for, half (the transfer) after. Of all
    laws with a given mean the exponential assumes least. Quantizing is a kernel launch, no time beside a copy.
    """
    return parameter.copy.size_bytes / 2 * chance.expovariate(1.0)
