"""Measure shallow models, lead each phase on a straight line to the full depth.

Exact where a phase's worst moment does not change place with depth. Backward has two candidates, while its first
(top) layers run and while its last one (bottom) does, when gradients of all others exist: each has its own line.
"""

from collections.abc import Sequence

from planner.measurement import PhaseReading

# The part of backward that begins with the bottom layer; told apart only while extrapolating.
BOTTOM = "_bottom"


def extrapolate(
    depths: Sequence[int], readings: Sequence[Sequence[PhaseReading]], full: int
) -> tuple[PhaseReading, ...]:
    """Readings at the full depth from those at `depths`, one sequence of phases per depth."""
    by_depth = [{phase.name: phase for phase in phases} for phases in readings]
    names = list(dict.fromkeys(phase.name for phases in readings for phase in phases))
    return merge_bottoms([_phase_at(full, depths, [phases[name] for phases in by_depth]) for name in names])


def merge_bottoms(phases: Sequence[PhaseReading]) -> tuple[PhaseReading, ...]:
    """Backward and its bottom part as one phase again: the worse peak, the later resident bytes."""
    merged: dict[str, PhaseReading] = {}
    for phase in phases:
        name = phase.name.removesuffix(BOTTOM)
        before = merged.get(name)
        merged[name] = phase.model_copy(update={"name": name}) if before is None else _joined(before, phase)
    return tuple(merged.values())


def _joined(first: PhaseReading, second: PhaseReading) -> PhaseReading:
    reserved = [p.peak_reserved_bytes for p in (first, second) if p.peak_reserved_bytes is not None]
    return PhaseReading(
        name=first.name,
        peak_allocated_bytes=max(first.peak_allocated_bytes, second.peak_allocated_bytes),
        peak_reserved_bytes=max(reserved) if reserved else None,
        resident_bytes=second.resident_bytes,
        seconds=None if first.seconds is None or second.seconds is None else first.seconds + second.seconds,
    )


def _phase_at(full: int, depths: Sequence[int], phases: Sequence[PhaseReading]) -> PhaseReading:
    seconds = [phase.seconds for phase in phases if phase.seconds is not None]
    allocated_bytes = round(line(depths, [phase.peak_allocated_bytes for phase in phases], full))
    return PhaseReading(
        name=phases[0].name,
        peak_allocated_bytes=allocated_bytes,
        peak_reserved_bytes=reserved_at(allocated_bytes, phases[-1]),
        resident_bytes=round(line(depths, [phase.resident_bytes for phase in phases], full)),
        seconds=round(line(depths, seconds, full), 4) if len(seconds) == len(phases) else None,
    )


def reserved_at(allocated_bytes: int, deepest: PhaseReading) -> int | None:
    """Reserved bytes jump by whole segments, so they follow no line: the deepest run's gap over allocated is kept."""
    if deepest.peak_reserved_bytes is None:
        return None
    return allocated_bytes + deepest.peak_reserved_bytes - deepest.peak_allocated_bytes


def line(depths: Sequence[int], values: Sequence[float], at: int) -> float:
    """The straight line through the two deepest points, read `at` a depth."""
    (near, far), (low, high) = depths[-2:], values[-2:]
    return low + (high - low) / (far - near) * (at - near)
