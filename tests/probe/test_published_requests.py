"""What the harness of published runs asks of torch's allocator again, in place of a step."""

import torch

from planner.evidence.published_dry_runs.harness.requests import Moments, ask_again
from planner.probe.devices.virtual_card import insert_card
from tests.probe import helper
from tests.probe.tiny import request


def taken_by_a_step_and_by_its_requests() -> tuple[int, int]:
    """Bytes that a step leaves allocated, and those that its requests leave after another load."""
    insert_card(request())
    stepped: dict[str, int] = {}
    model = _loaded()
    before = torch.cuda.memory_allocated()
    moments = Moments(stepped, model)
    model.bias.data = model.bias.data.half()  # as bitsandbytes does in its first forward
    kept = model.weight * 2
    moments.read("allocated", "after")
    asked: dict[str, int] = {}
    other = _loaded()
    before_again = torch.cuda.memory_allocated()
    ask_again(moments.requests(), asked, other)
    del kept
    return stepped["after"] - before, asked["after"] - before_again


def _loaded() -> torch.nn.Linear:
    return torch.nn.Linear(1, 1 << 20, device="cuda")


def test_what_a_step_gives_back_of_the_loaded_model_is_given_back_again() -> None:
    by_step, by_requests = helper.call(taken_by_a_step_and_by_its_requests)
    assert by_step == by_requests == 2 << 20
