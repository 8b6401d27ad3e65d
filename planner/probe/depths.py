"""`--layers 2,4`: run the shallow models one after the other and extrapolate."""

from dataclasses import replace

from transformers import PretrainedConfig

from planner.errors import FieldProblem, InvalidRequestError
from planner.measurement import DeviceReading, PhaseReading
from planner.probe.allocator import CachingAllocator
from planner.probe.extrapolate import extrapolate, line, merge_bottoms
from planner.probe.layers import check_depths, cut, depth_of
from planner.probe.meters.live import LiveMeter
from planner.probe.meters.meter import LOAD, PREPARE
from planner.probe.options import Options
from planner.probe.progress import Progress
from planner.probe.replay import replay, smallest_capacity_bytes
from planner.probe.replayed import device_reading, replayed_phases
from planner.probe.report import Outcome
from planner.probe.run import live_run
from planner.probe.target import Target
from planner.recipe import Recipe
from planner.request import Request

NOTE = "phases extrapolated on a straight line through the measured depths"


def extrapolated_outcome(
    request: Request, recipe: Recipe, config: PretrainedConfig, options: Options, progress: Progress
) -> Outcome:
    """Measure at each depth, extrapolate to the model's own.

    Raises:
        InvalidRequestError: these depths do not lead to the full depth, or the run cannot be extrapolated.
    """
    check_depths(config, options.layers)
    if options.memory_limit_bytes is not None:
        problem = FieldProblem("--memory-limit", "a shallow model under a limit says nothing; drop --layers or the limit")
        raise InvalidRequestError("A limit cannot be extrapolated.", [problem])
    if options.weights != "synthetic":
        problem = FieldProblem("--weights", "a shallow model takes made-up weights only; drop --layers or --weights")
        raise InvalidRequestError("Real weights have a depth of their own.", [problem])
    if options.instrument == "cuda":
        return _on_device(request, recipe, config, options, progress)
    runs = []
    for depth in options.layers:
        progress("layers", depth)
        runs.append(live_run(request, recipe, cut(config, depth), options, progress))
    target = runs[0][1]
    phases = extrapolate(options.layers, [meter.readings() for meter, _ in runs], depth_of(config))
    if not target.is_cuda:
        return Outcome(phases=phases, device=DeviceReading(name="cpu"), notes=(NOTE,))
    progress("layers", depth_of(config))
    deep_load, _ = live_run(request, recipe, config, replace(options, steps=0), progress)
    return _replayed(phases, [meter for meter, _ in runs], deep_load, target, options, depth_of(config))


def _replayed(
    phases: tuple[PhaseReading, ...], meters: list[LiveMeter], deep_load: LiveMeter, target: Target, options: Options, full: int
) -> Outcome:
    """Live bytes extrapolate exactly, block slack does not: it is what the loader's order leaves behind.

    So loading and preparing, which are quick, are replayed at full depth, and the slack they leave goes on top of
    every later phase. Reserved bytes and the smallest capacity are the shallow replays' own, extrapolated.
    """
    loaded = {phase.name: phase for phase in replayed_phases(deep_load, replay(deep_load.events, CachingAllocator(None)))}
    live = {phase.name: phase for phase in deep_load.readings()}
    slack_bytes = loaded[PREPARE].resident_bytes - live[PREPARE].resident_bytes
    shallow = [merge_bottoms(replayed_phases(meter, replay(meter.events, CachingAllocator(None)))) for meter in meters]
    reserved = {
        phase.name: round(line(options.layers, [_reserved(run, phase.name) for run in shallow], full))
        for phase in phases
    }
    result = []
    for phase in phases:
        if phase.name in (LOAD, PREPARE):
            result.append(loaded[phase.name])
            continue
        allocated = phase.peak_allocated_bytes + slack_bytes
        update = {
            "peak_allocated_bytes": allocated,
            "resident_bytes": phase.resident_bytes + slack_bytes,
            "peak_reserved_bytes": max(reserved[phase.name], allocated),
        }
        result.append(phase.model_copy(update=update))
    smallest = None
    if options.find_smallest:
        found = [smallest_capacity_bytes(meter.events) for meter in meters]
        smallest = round(line(options.layers, found, full))
    return Outcome(
        phases=tuple(result), device=device_reading(target), smallest_capacity_bytes=smallest, notes=(NOTE,)
    )


def _reserved(phases: tuple[PhaseReading, ...], name: str) -> int:
    return next(phase.peak_reserved_bytes or 0 for phase in phases if phase.name == name)


def _on_device(
    request: Request, recipe: Recipe, config: PretrainedConfig, options: Options, progress: Progress
) -> Outcome:
    from planner.probe.ondevice import device_outcome  # imports NVML's bindings

    outcomes = []
    for depth in options.layers:
        progress("layers", depth)
        outcomes.append(device_outcome(request, recipe, cut(config, depth), options, progress))
        if outcomes[-1].failed_phase is not None:
            return outcomes[-1]  # not even the shallow model fits
    phases = extrapolate(options.layers, [outcome.phases for outcome in outcomes], depth_of(config))
    return replace(outcomes[-1], phases=phases, process_bytes=None, notes=(*outcomes[-1].notes, NOTE))
