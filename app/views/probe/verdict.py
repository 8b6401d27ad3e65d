"""What a finished probe says of the question itself: does it fit, of how much, at which moment, after how long."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.templating import gib
from app.views.messages import MOMENTS
from planner.measurement import Measurement


@dataclass(frozen=True, slots=True)
class Proved:
    """The verdict of one reading that went through, and the sentence that says it."""

    verdict: str
    sentence: str


def proved(measurement: Measurement, prediction: Mapping[str, Any] | None) -> Proved:
    """Judge a reading by the whole it stands for.

    A run on the card itself fits because it ran. A dry run has counted what torch allocates; what lies outside that,
    the CUDA context and the allocator's slack, it takes from the plan, and so its answer keeps the plan's range. A
    processor's run says nothing of a card.
    """
    peak = gib(measurement.peak_allocated_bytes)
    when = _moment(measurement)
    if measurement.instrument == "cuda":
        total = measurement.memory_limit_bytes or measurement.device.total_memory_bytes
        return Proved("fits", f"Fits: measured {peak}" + (f" of {gib(total)}" if total else "") + f"{when}.")
    if measurement.instrument == "cpu":
        return Proved("undecided", f"Ran: {peak} at the peak{when}.")
    if prediction is None:
        return Proved("undecided", f"Counted: {peak} at the peak{when}.")
    apart = measurement.peak_allocated_bytes - prediction["peak_allocated_bytes"]
    needed = {name: prediction["required_bytes"][name] + apart for name in ("low", "likely", "high")}
    usable = prediction["usable_bytes"]
    if needed["high"] <= usable:
        word, verdict = "It fits", "fits"
    elif needed["low"] > usable:
        word, verdict = "It does not fit", "does_not_fit"
    else:
        word, verdict = "It is tight", "tight"
    whole = f"with the CUDA context and the allocator’s slack {gib(needed['likely'])} of {gib(usable)}"
    return Proved(verdict, f"{word}. Counted: {peak} at the peak{when}; {whole}.")


def _moment(measurement: Measurement) -> str:
    """The phase of the peak in words, where a phase has it."""
    for phase in measurement.phases:
        if phase.peak_allocated_bytes == measurement.peak_allocated_bytes:
            name = phase.name.removeprefix("first_")
            return f" {MOMENTS.get(name, f'in {name}')}"
    return ""


def seconds_of(measurement: Measurement) -> float | None:
    """How long the phases took together; None where none was timed."""
    timed = [phase.seconds for phase in measurement.phases if phase.seconds is not None]
    return sum(timed) if timed else None
