"""What measured runs say about the card they ran on: each beside its own plan, folded into the card's record."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from planner.answer.document import VERSIONS
from planner.answer.plan import Plan, plan
from planner.errors import FitproofError
from planner.gpu import CardRecord, Gpu, Seen
from planner.measurement import Measurement
from planner.overheads.table import context_band, fragmentation_band, overheads
from planner.request.schema import Request

_Use = tuple[bool, bool, bool]


@dataclass(frozen=True, slots=True)
class CardRun:
    """One measured run in the terms of `CardRecord`; None where it does not tell. `setting` is alike for repeats.

    `lost` is (use of the allocator, fraction).
    """

    setting: str
    allocated: float | None
    reserved: float | None
    context_bytes: int | None
    lost: tuple[_Use, float] | None


def card_run(measurement: Measurement, gpu: Gpu) -> CardRun | None:
    """Hold a CUDA run to the plan of the same request for the card it ran on, `gpu`.

    None where it says nothing about these formulas: they do not know the model, or were held to another stack.
    """
    if measurement.instrument != "cuda" or not _same_stack(measurement):
        return None
    try:
        request = Request.parse(measurement.request).model_copy(update={"gpu": gpu.id})
        foreseen = plan(request, gpu=gpu)
    except FitproofError:
        return None
    setting = json.dumps(request.model_dump(mode="json", exclude={"gpu"}), sort_keys=True)
    if measurement.outcome != "ok":
        return CardRun(setting, None, None, None, _lost_at_death(measurement, foreseen))
    if not measurement.peak_allocated_bytes:
        return None
    allocated = measurement.peak_allocated_bytes / foreseen.peak_allocated_bytes - 1
    return CardRun(
        setting, allocated, _reserved(measurement, foreseen), measurement.context_bytes, _lost(measurement, foreseen)
    )


def card_record(runs: Iterable[CardRun]) -> CardRecord | None:
    """Fold the runs of one card; None without any. Repeats of one setting count once, with all they spread."""
    known = tuple(runs)
    if not known:
        return None
    uses = sorted({run.lost[0] for run in known if run.lost})
    return CardRecord(
        allocated=_seen((run.setting, run.allocated) for run in known),
        reserved=_seen((run.setting, run.reserved) for run in known),
        context_bytes=_seen((run.setting, run.context_bytes) for run in known),
        lost=tuple((use, seen) for use in uses if (seen := _lost_in(known, use))),
    )


def _lost_in(runs: Iterable[CardRun], use: _Use) -> Seen | None:
    return _seen((run.setting, run.lost[1]) for run in runs if run.lost and run.lost[0] == use)


def _seen(figures: Iterable[tuple[str, float | None]]) -> Seen | None:
    by_setting: dict[str, list[float]] = defaultdict(list)
    for setting, value in figures:
        if value is not None:
            by_setting[setting].append(value)
    if not by_setting:
        return None
    everything = [value for values in by_setting.values() for value in values]
    return Seen(len(by_setting), min(everything), median(map(median, by_setting.values())), max(everything))


def _same_stack(measurement: Measurement) -> bool:
    said = measurement.versions
    return all(name not in said or said[name].startswith(held) for name, held in VERSIONS.items())


def _reserved(measurement: Measurement, foreseen: Plan) -> float | None:
    """Only where there was room for whatever runs reserve: short of room the allocator gives back."""
    reserved_bytes, room_bytes = measurement.peak_reserved_bytes, _room_bytes(measurement, foreseen.gpu)
    foreseen_bytes = foreseen.estimate.reserved_bytes()
    if not reserved_bytes or room_bytes < foreseen_bytes * (1 + overheads().reserved_band().high):
        return None
    return reserved_bytes / foreseen_bytes - 1


def _lost(measurement: Measurement, foreseen: Plan) -> tuple[_Use, float] | None:
    """The smallest capacity where it was searched for; else what was reserved, which surely is enough.

    A bound beyond the general range says no more than that range does.
    """
    use, allocated_bytes = _use(foreseen), measurement.peak_allocated_bytes
    if measurement.smallest_capacity_bytes and measurement.context_bytes:
        return use, (measurement.smallest_capacity_bytes - measurement.context_bytes) / allocated_bytes - 1
    if not measurement.peak_reserved_bytes:
        return None
    return use, min(measurement.peak_reserved_bytes / allocated_bytes - 1, fragmentation_band(*use).high)


def _lost_at_death(measurement: Measurement, foreseen: Plan) -> tuple[_Use, float] | None:
    """At least this much was lost where a run died that the general range would have let live.

    Only under a limit of its own: a whole card may have been shared with others.
    """
    if measurement.memory_limit_bytes is None:
        return None
    use, error = _use(foreseen), overheads().formula_band(foreseen.recipe.method).high
    lost = _room_bytes(measurement, foreseen.gpu) / (foreseen.peak_allocated_bytes * (1 + error)) - 1
    return (use, lost) if lost > fragmentation_band(*use).high else None


def _use(foreseen: Plan) -> _Use:
    estimate = foreseen.estimate
    return estimate.varying_lengths, estimate.expandable_segments, estimate.large_pieces


def _room_bytes(measurement: Measurement, gpu: Gpu) -> float:
    """What the allocator might take: the limit or the card, less the context."""
    whole_bytes = measurement.memory_limit_bytes or measurement.device.total_memory_bytes or gpu.usable_bytes
    return whole_bytes - (measurement.context_bytes or context_band(gpu.compute_capability).high)
