"""One request, one Measurement: choose the instrument, run it, write down what it read."""

from collections.abc import Sequence

from transformers.utils import logging as transformers_logging

from planner.measurement import DeviceReading, Measurement, PhaseReading
from planner.probe.allocator import CachingAllocator
from planner.probe.configs import config_of
from planner.probe.meters.live import LiveMeter
from planner.probe.options import Options
from planner.probe.progress import Progress
from planner.probe.replay import replay, smallest_capacity_bytes
from planner.probe.report import measurement_of
from planner.probe.run import live_run
from planner.probe.target import Target
from planner.recipe import Recipe
from planner.request import Request


def measure(request: Request, options: Options, progress: Progress) -> Measurement:
    """Measure `request` as `options` say.

    Raises:
        FitproofError: the request names something that cannot be built.
    """
    transformers_logging.disable_progress_bar()
    recipe = Recipe.of(request)
    config = config_of(request, recipe)
    meter, target = live_run(request, recipe, config, options, progress)
    phases: Sequence[PhaseReading] = meter.readings()
    smallest = None
    if target.is_cuda:
        progress("replay")
        phases = _as_allocated(phases, meter)
        if options.find_smallest:
            smallest = smallest_capacity_bytes(meter.events)
    return measurement_of(request, options, phases, _device(target), smallest)


def _as_allocated(phases: Sequence[PhaseReading], meter: LiveMeter) -> tuple[PhaseReading, ...]:
    """What the card's caching allocator would have read: block slack and reserved bytes included."""
    replayed = {phase.name: phase for phase in replay(meter.events, CachingAllocator(None)).phases}
    return tuple(
        phase.model_copy(
            update={
                "peak_allocated_bytes": replayed[phase.name].peak_allocated_bytes,
                "peak_reserved_bytes": replayed[phase.name].peak_reserved_bytes,
                "resident_bytes": replayed[phase.name].resident_bytes,
            }
        )
        for phase in phases
    )


def _device(target: Target) -> DeviceReading:
    if not target.is_cuda:
        return DeviceReading(name="cpu")
    major, minor = target.capability or (0, 0)
    return DeviceReading(
        name=target.name, total_memory_bytes=target.total_memory_bytes, compute_capability=f"{major}.{minor}"
    )
