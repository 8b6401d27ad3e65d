"""One dry run read by torch's history of its allocator; in a process of its own."""

import os

import torch

from planner.measurement import PhaseReading
from planner.probe.devices.allocator_settings import settle_allocator
from planner.probe.devices.virtual_card import insert_card, make_values_true
from planner.probe.meters.history import HistoryMeter
from planner.probe.options import Options
from planner.probe.refusals import refuse_what_cannot_run
from planner.probe.training.configs import config_of
from planner.probe.training.phases import Job, story
from planner.request.recipe import Recipe
from planner.request.schema import Request


def traced_readings(request: Request, options: Options) -> tuple[PhaseReading, ...]:
    """The live bytes of every phase, as tensors asked for them.

    Raises:
        InvalidRequestError: this run cannot be had here.
    """
    recipe = Recipe.of(request)
    refuse_what_cannot_run(request, recipe, options)
    settle_allocator(os.environ, expandable=request.training.expandable_segments)
    insert_card(request)
    job = Job(request, recipe, config_of(request, recipe), options, lambda *_: None)
    make_values_true(options.seed, options.routing)
    with HistoryMeter() as meter:
        trained = story(job, torch.device("cuda", 0), meter)
    del trained
    return meter.readings()
