"""Loading as other releases did it, made from the stream that the installed one was recorded with.

The installed transformers loads one parameter at a time when it quantizes on the way (core_model_loading.py, "When
doing on-the-fly quantization, we also use sync loading"), behind one warm-up block, and the installed peft empties the
cache after its float32 casts. Other habits leave other holes in the allocator, and so other block slack:

`by_threads`      transformers 5.0: threads copy parameters while the main thread quantizes them, see planner/races.py;
                  each seed is one of the runs that may happen.
`without_warmup`  transformers before 4.50, and a model loaded in host memory and then moved, `model.to("cuda")`.
`keeping_cache`   peft before 0.20: `prepare_model_for_kbit_training` leaves the cache alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.probe.meters.events import Event
from planner.probe.meters.meter import LOAD
from planner.races import THREADS, race

_COPY = "aten.empty.memory_format"  # what a parameter's copy on the device is born as


@dataclass(slots=True)
class _Parameter:
    """One parameter's life: its copy on the device, then what the main thread makes of it."""

    copy: Event
    rest: list[Event] = field(default_factory=list)


def by_threads(events: Sequence[Event], seed: int, workers: int = THREADS) -> list[Event]:
    """Let `workers` threads copy ahead of the main thread; `seed` decides the race."""
    head, parameters, tail = _split(events)
    for what, index in race([parameter.copy.size_bytes for parameter in parameters], seed, workers):
        head += [parameters[index].copy] if what == "copied" else parameters[index].rest
    return head + tail


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
