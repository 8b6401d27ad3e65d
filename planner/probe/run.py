"""One measurement on the CPU or on fake tensors: load, prepare, step under one live meter."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import bitsandbytes as bnb
import torch
from torch.utils._python_dispatch import _disable_current_modes
from transformers import PretrainedConfig

from planner.probe.checks import Fingerprints, fingerprints, verify_finite, verify_only_trainables_changed
from planner.probe.dryrun import dry_run
from planner.probe.layers import decoder_layers, depth_of
from planner.probe.load import load_model, model_class_of
from planner.probe.meters.kernels import temporaries_of, workspaces_of
from planner.probe.meters.live import LiveMeter
from planner.probe.meters.meter import LOAD, PREPARE, SAVE, Meter, Tell, tell_nobody
from planner.probe.options import Options
from planner.probe.patching import Patch, patched
from planner.probe.prepare import TrainableModel, prepare_model
from planner.probe.progress import watching
from planner.probe.repeat import DISTINCT_STEPS, repeated
from planner.probe.saving import save_and_verify
from planner.probe.stack import pinned_attention
from planner.probe.step import Progress, Trainee, train
from planner.probe.target import CPU, Target, target_of
from planner.recipe import Recipe
from planner.request import Request


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, and how it was asked for. `tell` hears what each phase has read so far."""

    request: Request
    recipe: Recipe
    config: PretrainedConfig
    options: Options
    progress: Progress
    tell: Tell = tell_nobody


def live_run(
    request: Request, recipe: Recipe, config: PretrainedConfig, options: Options, progress: Progress
) -> tuple[LiveMeter, Target]:
    """Run the whole story under a live meter that nobody watches; see `watched_run`."""
    return watched_run(Job(request, recipe, config, options, progress))


def watched_run(job: Job) -> tuple[LiveMeter, Target]:
    """Run the whole story under a live meter. Returns it, readings and events inside, and whose kernels it followed.

    A dry run records two steps; every later one is the second again.
    """
    again = max(0, job.options.steps - DISTINCT_STEPS) if job.options.instrument == "dry-run" else 0
    meter, target = _recorded(replace(job, options=replace(job.options, steps=job.options.steps - again)))
    if again:  # only now has the run let go of all it held
        meter.events = repeated(meter.events, again)
    return meter, target


def _recorded(job: Job) -> tuple[LiveMeter, Target]:
    target = CPU if job.options.instrument == "cpu" else target_of(job.request, job.options.follow)
    meter = LiveMeter(temporaries_of(target), workspaces=workspaces_of(target), tell=job.tell)
    with _world(job, target, meter):
        with meter, watching(meter, job.tell):
            trained = story(job, torch.device("cpu"), meter)
        trained.verify()
    return meter, target


@dataclass(frozen=True, slots=True)
class Trained:
    """What is left when the story is over. Keep it until the meter is left, so that resident bytes are true."""

    model: TrainableModel
    before: Fingerprints | None
    loss: torch.Tensor

    def verify(self) -> None:
        """Prove that the right parameters moved and the loss is a number; fake tensors have no values to prove.

        Raises:
            TrainingCheckError: a frozen parameter moved, a trainable one did not, or the loss is no number.
        """
        if self.before is not None:
            verify_only_trainables_changed(self.model, self.before)
            verify_finite(self.loss)


def story(job: Job, device: torch.device, meter: Meter) -> Trained:
    """Load, prepare, train, save: the same code under every meter.

    Raises:
        AdapterSaveError: the saved adapters are not the trained ones.
    """
    recipe, config, options = job.recipe, job.config, job.options
    torch.manual_seed(options.seed)
    meter.begin(LOAD)
    job.progress(LOAD, 0)
    model = load_model(job.request, recipe, config, device, options.weights)
    meter.begin(PREPARE)
    job.progress(PREPARE, 0)
    trainable = prepare_model(model, recipe)
    checked = options.instrument != "dry-run" and options.steps > 0
    before = fingerprints(trainable) if checked else None
    bottom = decoder_layers(trainable, depth_of(config))[0] if options.layers else None
    vocabulary = config.get_text_config().vocab_size
    with pinned_attention(recipe, device):
        loss = train(Trainee(trainable, recipe, device, meter, vocabulary, bottom), options.steps, job.progress)
    meter.begin(SAVE)
    job.progress(SAVE, 0)
    with _disable_current_modes():  # the copies are host memory in life
        save_and_verify(trainable)
    return Trained(trainable, before, loss)


@contextmanager
def _world(job: Job, target: Target, meter: LiveMeter) -> Iterator[None]:
    with own_quantization_tables(), _own_module(job.config):
        if job.options.instrument == "cpu":
            with patched([Patch(bnb.functional, "create_dynamic_map", _table_made_on_host(meter))]):
                yield
        else:
            with dry_run(job.recipe, target, meter):
                yield


@contextmanager
def own_quantization_tables() -> Iterator[None]:
    """bitsandbytes keeps its tables for good; a run begins without them, so that it counts its own."""
    tables = dict(bnb.functional.name2qmap)
    bnb.functional.name2qmap.clear()
    try:
        yield
    finally:
        bnb.functional.name2qmap.clear()
        bnb.functional.name2qmap.update(tables)


@contextmanager
def _own_module(config: PretrainedConfig) -> Iterator[None]:
    """Put back what Liger changes for every later model: the model's module, and for some torch's cross entropy.

    The latter where it keeps all logits (liger_kernel/transformers/monkey_patch.py, `cross_entropy=True`).
    """
    changed = [vars(sys.modules[model_class_of(config).__module__]), vars(torch.nn.functional)]
    before = [dict(names) for names in changed]
    try:
        yield
    finally:
        for names, old in zip(changed, before, strict=True):
            names.update(old)


def _table_made_on_host(meter: LiveMeter) -> Callable[..., torch.Tensor]:
    """bitsandbytes computes its 8-bit table in host memory and moves the result."""
    original: Any = bnb.functional.create_dynamic_map

    def create(*args: Any, **kwargs: Any) -> torch.Tensor:
        with meter.on_host():
            table: torch.Tensor = original(*args, **kwargs)
        meter.adopt(table)
        return table

    return create
