"""From what a meter read to the Measurement that is printed."""

import importlib.metadata
from collections.abc import Sequence

from planner.measurement import DeviceReading, Measurement, PhaseReading
from planner.probe.options import Options
from planner.recipe import Recipe
from planner.request import Request

# Every library whose release can move a byte.
_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "trl", "liger-kernel")


def measurement_of(  # every field is one fact
    request: Request,
    options: Options,
    phases: Sequence[PhaseReading],
    device: DeviceReading,
    smallest_capacity_bytes: int | None = None,
    notes: Sequence[str] = (),
) -> Measurement:
    """A finished run, written down with all it takes to repeat it."""
    reserved = [phase.peak_reserved_bytes for phase in phases if phase.peak_reserved_bytes is not None]
    recipe = Recipe.of(request)
    return Measurement(
        instrument=options.instrument,
        outcome="ok",
        peak_allocated_bytes=max(phase.peak_allocated_bytes for phase in phases),
        peak_reserved_bytes=max(reserved) if reserved else None,
        smallest_capacity_bytes=smallest_capacity_bytes,
        phases=tuple(phases),
        steps=options.steps,
        tokens_per_micro_batch=recipe.tokens,
        weights=options.weights,
        memory_limit_bytes=options.memory_limit_bytes,
        layers_measured=options.layers or None,
        seed=options.seed,
        notes=tuple(notes),
        device=device,
        versions=library_versions(),
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
