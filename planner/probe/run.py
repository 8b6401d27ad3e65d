"""One measurement on the CPU or on fake tensors: load, prepare, step under one live meter."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PretrainedConfig

from planner.probe.configs import config_of
from planner.probe.dryrun import dry_run
from planner.probe.load import load_model
from planner.probe.meters.kernels import temporaries_of, workspaces_of
from planner.probe.meters.live import LiveMeter
from planner.probe.meters.meter import LOAD, PREPARE, Meter
from planner.probe.options import Options
from planner.probe.prepare import prepare_model
from planner.probe.step import Progress, train
from planner.probe.target import CPU, Target, target_of
from planner.recipe import Recipe
from planner.request import Request


def live_run(
    request: Request, recipe: Recipe, config: PretrainedConfig, options: Options, progress: Progress
) -> tuple[LiveMeter, Target]:
    """Run the whole story under a live meter; returns it, with its readings and events, and whose kernels it followed."""
    target = CPU if options.instrument == "cpu" else target_of(request, options.follow)
    meter = LiveMeter(temporaries_of(target), workspaces=workspaces_of(target))
    with _world(recipe, target, meter, options), meter:
        story(request, recipe, config, torch.device("cpu"), meter, options, progress)
    return meter, target


def story(
    request: Request,
    recipe: Recipe,
    config: PretrainedConfig,
    device: torch.device,
    meter: Meter,
    options: Options,
    progress: Progress,
) -> None:
    """Load, prepare, train: the same code under every meter."""
    torch.manual_seed(options.seed)
    meter.begin(LOAD)
    progress(LOAD, 0)
    model = load_model(request, recipe, config, device, options.weights)
    meter.begin(PREPARE)
    progress(PREPARE, 0)
    trainable = prepare_model(model, recipe)
    vocabulary = config.get_text_config().vocab_size
    train(trainable, recipe, device, meter, options.steps, vocabulary, progress)


@contextmanager
def _world(recipe: Recipe, target: Target, meter: LiveMeter, options: Options) -> Iterator[None]:
    if options.instrument == "cpu":
        yield
        return
    with dry_run(recipe, target, meter):
        yield
