"""A dry run with the installed releases that loads and trains as others did, where they can be told to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from planner.allocator.load_phase import Habits
from planner.probe.devices.allocator_settings import settle_allocator
from planner.probe.devices.virtual_card import insert_card, virtual_outcome
from planner.probe.options import Options
from planner.probe.report import Outcome
from planner.probe.training import phases
from planner.probe.training.configs import config_of
from planner.probe.training.load import load_model
from planner.probe.training.patching import Patch, patched
from planner.probe.training.transformers4_loss import loss_of_transformers_4
from planner.request.recipe import Recipe
from planner.request.schema import Request


def habitual_outcome(request: Request, options: Options, habits: Habits, *, older_loss: bool) -> Outcome:
    """Dry-run `request` in a process of its own."""
    recipe = Recipe.of(request)
    settle_allocator(os.environ, expandable=request.training.expandable_segments)
    insert_card(request)
    job = phases.Job(request, recipe, config_of(request, recipe), options, lambda *_: None)
    with loss_of_transformers_4() if older_loss else nullcontext(), _living_by(habits):
        return virtual_outcome(job)


@contextmanager
def _living_by(habits: Habits) -> Iterator[None]:
    patches = []
    if habits.moved:
        patches.append(Patch(phases, "load_model", _loaded_and_moved))
    if habits.keeps_cache:
        patches.append(Patch(torch.cuda, "empty_cache", _nothing_emptied))
    with patched(patches):
        yield


def _loaded_and_moved(request: Request, recipe: Recipe, config: Any, device: torch.device, weights: str) -> Any:
    """`from_pretrained` into host memory, then `model.to("cuda")`."""
    model: Any = load_model(request, recipe, config, torch.device("cpu"), weights)
    return model.to(device)


def _nothing_emptied() -> None:
    """peft before 0.20 left the cache alone (`prepare_model_for_kbit_training`)."""
