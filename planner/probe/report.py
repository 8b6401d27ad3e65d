"""From what a meter read to the Measurement that is printed."""

import importlib.metadata
from dataclasses import dataclass, field

from planner.measurement import DeviceReading, Measurement, PeakPart, PhaseReading, RankReading
from planner.probe.options import Options
from planner.request.recipe import Recipe
from planner.request.schema import Request

# Every library whose release can move a byte.
_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "trl", "liger-kernel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an instrument found, before it is written down. `failed_phase` is None for a run that went through."""

    phases: tuple[PhaseReading, ...]
    device: DeviceReading
    failed_phase: str | None = None
    requested_bytes: int | None = None
    short_bytes: int | None = None
    smallest_capacity_bytes: int | None = None
    managed_bytes: int | None = None
    pinned_bytes: int | None = None
    process_bytes: int | None = None
    context_bytes: int | None = None
    tokens_per_second: float | None = None
    peak_parts: tuple[PeakPart, ...] = ()
    ranks: tuple[RankReading, ...] = ()
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)


def measurement_of(request: Request, options: Options, outcome: Outcome) -> Measurement:
    """A run, written down with all it takes to repeat it."""
    reserved = [phase.peak_reserved_bytes for phase in outcome.phases if phase.peak_reserved_bytes is not None]
    failed = outcome.failed_phase is not None
    return Measurement(
        instrument=options.instrument,
        outcome="out_of_memory" if failed else "ok",
        failed_phase=outcome.failed_phase,
        requested_bytes=outcome.requested_bytes,
        short_bytes=outcome.short_bytes,
        peak_allocated_bytes=max((phase.peak_allocated_bytes for phase in outcome.phases), default=0),
        peak_reserved_bytes=max(reserved, default=None),
        process_bytes=outcome.process_bytes,
        context_bytes=outcome.context_bytes,
        smallest_capacity_bytes=outcome.smallest_capacity_bytes,
        managed_bytes=outcome.managed_bytes,
        pinned_bytes=outcome.pinned_bytes,
        phases=outcome.phases,
        peak_parts=outcome.peak_parts,
        steps=options.steps,
        tokens_per_micro_batch=Recipe.of(request).tokens,
        tokens_per_second=outcome.tokens_per_second,
        weights=options.weights,
        memory_limit_bytes=options.memory_limit_bytes,
        seed=options.seed,
        notes=outcome.notes,
        device=outcome.device,
        ranks=outcome.ranks,
        versions=library_versions() | outcome.versions,
        request=request.model_dump(mode="json"),
    )


def library_versions() -> dict[str, str]:
    """The installed release of every library that can move a byte."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
