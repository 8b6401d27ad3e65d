"""One request, one Measurement: choose the instrument, run it, write down what it read."""

from transformers.utils import logging as transformers_logging

from planner.measurement import DeviceReading, Measurement
from planner.probe.configs import config_of
from planner.probe.depths import extrapolated_outcome
from planner.probe.ondevice import device_outcome
from planner.probe.options import Options
from planner.probe.progress import Progress
from planner.probe.replayed import card_outcome
from planner.probe.report import Outcome, measurement_of
from planner.probe.run import live_run
from planner.recipe import Recipe
from planner.request import Request


def measure(request: Request, options: Options, progress: Progress) -> Measurement:
    """Measure `request` as `options` say.

    Raises:
        FitproofError: the request or the options name something that cannot be built or run here.
    """
    transformers_logging.disable_progress_bar()
    return measurement_of(request, options, _outcome(request, options, progress))


def _outcome(request: Request, options: Options, progress: Progress) -> Outcome:
    recipe = Recipe.of(request)
    config = config_of(request, recipe)
    if options.layers:
        return extrapolated_outcome(request, recipe, config, options, progress)
    if options.instrument == "cuda":
        return device_outcome(request, recipe, config, options, progress)
    meter, target = live_run(request, recipe, config, options, progress)
    if target.is_cuda:
        progress("replay")
        return card_outcome(meter, target, options)
    return Outcome(phases=meter.readings(), device=DeviceReading(name="cpu"))
