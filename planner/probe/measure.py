"""One request, one Measurement: choose the instrument, run it, write down what it read."""

from collections.abc import Callable
from dataclasses import replace

from transformers.utils import logging as transformers_logging

from planner.catalog import resolve_gpu
from planner.measurement import Measurement
from planner.model.quantized_checkpoint import on_card, with_checkpoint
from planner.probe.checkpoint.source import as_stored
from planner.probe.devices.cpu import cpu_outcome
from planner.probe.devices.cuda import Survives, device_outcome, survives_in_a_new_program, with_smallest
from planner.probe.devices.virtual_card import insert_card, virtual_outcome
from planner.probe.meters.meter import tell_nobody
from planner.probe.notes import notes_of
from planner.probe.options import Options
from planner.probe.processes.forked import in_fork
from planner.probe.progress import Progress, Silence
from planner.probe.ranks.outcome import rank_outcome, ranks_outcome, worst_rank
from planner.probe.refusals import refuse_what_cannot_run
from planner.probe.report import Outcome, measurement_of
from planner.probe.training.configs import config_fields, config_of
from planner.probe.training.phases import Job
from planner.request.recipe import Recipe
from planner.request.schema import Request


def measure(request: Request, options: Options, progress: Progress) -> Measurement:
    """Measure `request` as `options` say.

    Raises:
        FitproofError: the request or the options name something that cannot be built or run here.
    """
    transformers_logging.disable_progress_bar()
    stored = as_stored(request, options)
    settled = with_checkpoint(stored, config_fields(stored), ())
    recipe = on_card(Recipe.of(settled), resolve_gpu(request.gpu))
    refuse_what_cannot_run(settled, recipe, options)
    config = config_of(settled, recipe)
    outcome = _outcome(Job(settled, recipe, config, options, progress, progress.phase))
    notes = (*outcome.notes, *notes_of(recipe, config, options))
    return measurement_of(request, options, replace(outcome, notes=notes))


def _outcome(job: Job) -> Outcome:
    if job.options.instrument == "cpu":
        return cpu_outcome(job)
    if job.options.instrument == "cuda":
        outcome = device_outcome(job)
        return with_smallest(job, outcome, survives_in_a_new_program(job)) if job.options.find_smallest else outcome
    if job.recipe.layout.strategy not in {"single", "device_map"}:
        outcome = ranks_outcome(job)
        survives = _survives_in_a_fork(job, lambda tried: rank_outcome(tried, worst_rank(outcome)))
        return with_smallest(job, outcome, survives) if job.options.find_smallest else outcome
    if job.options.find_smallest:
        outcome = in_fork(lambda: virtual_outcome(job))
        return with_smallest(job, outcome, _survives_in_a_fork(job, virtual_outcome))
    return virtual_outcome(job)


def _survives_in_a_fork(job: Job, run: Callable[[Job], Outcome]) -> Survives:
    """Try on a virtual card, which wakes up in each fork anew."""

    def on_a_card_of(limit_bytes: int) -> Outcome:
        insert_card(job.request, limit_bytes)
        options = replace(job.options, memory_limit_bytes=limit_bytes)
        return run(replace(job, options=options, tell=tell_nobody, progress=Silence()))

    def survives(limit_bytes: int) -> bool:
        return in_fork(lambda: on_a_card_of(limit_bytes)).failed_phase is None

    return survives
