"""One request, one Measurement: choose the instrument, run it, write down what it read."""

from dataclasses import replace

from transformers.utils import logging as transformers_logging

from planner.measurement import DeviceReading, Measurement
from planner.probe.configs import config_of
from planner.probe.depths import extrapolated_outcome
from planner.probe.notes import notes_of
from planner.probe.ondevice import device_outcome
from planner.probe.options import Options
from planner.probe.progress import Progress
from planner.probe.refusals import refuse_what_cannot_run
from planner.probe.replay import allocator_of
from planner.probe.replayed import card_outcome
from planner.probe.report import Outcome, measurement_of
from planner.probe.run import Job, watched_run
from planner.recipe import Recipe
from planner.request import Request


def measure(request: Request, options: Options, progress: Progress) -> Measurement:
    """Measure `request` as `options` say.

    Raises:
        FitproofError: the request or the options name something that cannot be built or run here.
    """
    transformers_logging.disable_progress_bar()
    recipe = Recipe.of(request)
    refuse_what_cannot_run(request, recipe, options)
    config = config_of(request, recipe)
    outcome = _outcome(Job(request, recipe, config, options, progress, progress.phase))
    notes = (*outcome.notes, *notes_of(recipe, config, options, outcome.device.compute_capability))
    return measurement_of(request, options, replace(outcome, notes=notes))


def _outcome(job: Job) -> Outcome:
    """Shallow runs (`--layers`) tell nobody: their bytes are not this model's."""
    if job.options.layers:
        return extrapolated_outcome(job.request, job.recipe, job.config, job.options, job.progress)
    if job.options.instrument == "cuda":
        return device_outcome(job)
    meter, target = watched_run(job)
    if target.is_cuda:
        job.progress("replay", 0)
        return card_outcome(meter, target, job.options, allocator_of(job.recipe))
    return Outcome(phases=meter.readings(), device=DeviceReading(name="cpu"))
