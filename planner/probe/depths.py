"""`--layers 2,4`: run the shallow models one after the other and extrapolate."""

from dataclasses import replace

from transformers import PretrainedConfig

from planner.errors import FieldProblem, InvalidRequestError
from planner.measurement import DeviceReading, PhaseReading
from planner.probe.extrapolate import extrapolate, merge_bottoms, reserved_at
from planner.probe.layers import check_depths, cut, depth_of
from planner.probe.meters.live import LiveMeter
from planner.probe.meters.meter import LOAD, PREPARE
from planner.probe.ondevice import device_outcome
from planner.probe.options import Options
from planner.probe.replay import AllocatorFactory, allocator_of, replay, smallest_capacity_bytes
from planner.probe.replayed import device_reading, replayed_phases
from planner.probe.report import Outcome
from planner.probe.run import Job, live_run
from planner.probe.step import Progress
from planner.recipe import Recipe
from planner.request import Request

Phases = tuple[PhaseReading, ...]

NOTE = "extrapolated: allocated bytes on a straight line, reserved bytes and smallest capacity by the deepest run's gap"


def extrapolated_outcome(
    request: Request, recipe: Recipe, config: PretrainedConfig, options: Options, progress: Progress
) -> Outcome:
    """Measure at each depth, extrapolate to the model's own.

    Raises:
        InvalidRequestError: these depths do not lead to the full depth, or an option needs the whole model.
    """
    check_depths(config, options.layers)
    _refuse_what_depth_decides(options)
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
    deep, _ = live_run(request, recipe, config, replace(options, steps=0), progress)
    deepest, factory = runs[-1][0], allocator_of(recipe)
    shallow = _replayed(deepest, factory)
    final = _with_slack(phases, (_replayed(deep, factory), deep.readings()), shallow)
    smallest = None
    if options.find_smallest:
        gap_bytes = smallest_capacity_bytes(deepest.events, factory) - _peak(shallow)
        smallest = _peak(final) + gap_bytes
    return Outcome(phases=final, device=device_reading(target), smallest_capacity_bytes=smallest, notes=(NOTE,))


def _refuse_what_depth_decides(options: Options) -> None:
    problems = []
    if options.memory_limit_bytes is not None:
        fix = "a shallow model under a limit says nothing; drop --layers or the limit"
        problems.append(FieldProblem("--memory-limit", fix))
    if options.weights != "synthetic":
        problems.append(FieldProblem("--weights", "a shallow model takes made-up weights only; drop one of the two"))
    if problems:
        raise InvalidRequestError("Some options need the whole model.", problems)


def _with_slack(phases: Phases, deep: tuple[Phases, Phases], deepest: Phases) -> Phases:
    """Live bytes extrapolate exactly, block slack does not: it is what the loader's order leaves behind.

    So loading and preparing, which are quick, are replayed at full depth (`deep`: replayed, live), and the slack they
    leave goes on top of every later phase. Reserved bytes exceed allocated ones by what they do in the `deepest`
    shallow replay.
    """
    loaded, live = ({phase.name: phase for phase in read} for read in deep)
    shallow = {phase.name: phase for phase in deepest}
    slack_bytes = loaded[PREPARE].resident_bytes - live[PREPARE].resident_bytes
    result = []
    for phase in phases:
        if phase.name in (LOAD, PREPARE):
            result.append(loaded[phase.name])
            continue
        allocated_bytes = phase.peak_allocated_bytes + slack_bytes
        update = {
            "peak_allocated_bytes": allocated_bytes,
            "resident_bytes": phase.resident_bytes + slack_bytes,
            "peak_reserved_bytes": reserved_at(allocated_bytes, shallow[phase.name]),
        }
        result.append(phase.model_copy(update=update))
    return tuple(result)


def _peak(phases: Phases) -> int:
    return max(phase.peak_allocated_bytes for phase in phases)


def _replayed(meter: LiveMeter, factory: AllocatorFactory) -> Phases:
    return merge_bottoms(replayed_phases(meter, replay(meter.events, factory(None))))


def _on_device(
    request: Request, recipe: Recipe, config: PretrainedConfig, options: Options, progress: Progress
) -> Outcome:
    outcomes = []
    for depth in options.layers:
        progress("layers", depth)
        outcomes.append(device_outcome(Job(request, recipe, cut(config, depth), options, progress)))
        if outcomes[-1].failed_phase is not None:
            return outcomes[-1]  # not even the shallow model fits
    phases = extrapolate(options.layers, [outcome.phases for outcome in outcomes], depth_of(config))
    return replace(outcomes[-1], phases=phases, process_bytes=None, notes=(*outcomes[-1].notes, NOTE))
