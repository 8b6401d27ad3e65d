"""The device path, as far as a CPU can walk it: the real story, the CUDA meter, a stand-in for `torch.cuda`."""

import pytest
import torch

from planner.probe import run
from planner.probe.configs import config_of
from planner.probe.limits import catch_out_of_memory
from planner.probe.meters.cuda import CudaMeter
from planner.probe.meters.meter import FIRST, STEP_PHASES
from planner.probe.ondevice import run_on
from planner.probe.options import Options
from planner.recipe import Recipe
from planner.units import GIB
from tests.probe.fake_cuda import FakeCore, FakeCuda
from tests.probe.tiny import request


def job(**options: object) -> run.Job:
    asked = request(training={"gradient_accumulation_steps": 2})
    recipe = Recipe.of(asked)
    return run.Job(asked, recipe, config_of(asked, recipe), Options(instrument="cuda", **options), lambda *_: None)


def meter() -> CudaMeter:
    cuda = FakeCuda()
    return CudaMeter(cuda=cuda, core=FakeCore(cuda), driver=None)


def test_the_whole_story_runs_under_the_cuda_meter() -> None:
    outcome = run_on(torch.device("cpu"), job(), meter())
    assert outcome.failed_phase is None
    assert [phase.name for phase in outcome.phases] == [
        "load", "prepare", *(FIRST + name for name in STEP_PHASES), *STEP_PHASES, "save",
    ]  # fmt: skip
    assert outcome.tokens_per_second is not None
    assert outcome.device.name == "Fake H100"


def test_memory_that_runs_out_is_an_outcome_with_its_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare_model(*_: object) -> None:
        msg = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."
        raise torch.cuda.OutOfMemoryError(msg)

    monkeypatch.setattr(run, "prepare_model", prepare_model)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 0)
    outcome = run_on(torch.device("cpu"), job(), meter())
    assert outcome.failed_phase == "prepare"
    assert outcome.requested_bytes == 2 * GIB


def test_memory_that_runs_out_inside_the_loader_is_found_behind_its_own_error() -> None:
    cuda = FakeCuda()
    cuda.allocator.capacity_bytes = GIB

    def load() -> None:
        try:
            cuda.allocate(2 * GIB)
        except cuda.OutOfMemoryError:
            msg = "We encountered some issues during automatic conversion of the weights!"
            raise RuntimeError(msg) from None

    core = FakeCore(cuda)
    core.workspaces = []
    with catch_out_of_memory(cuda, core) as watch:
        load()
    assert watch.failed
    assert watch.requested_bytes == 2 * GIB


def test_any_other_error_goes_on() -> None:
    with pytest.raises(ZeroDivisionError), catch_out_of_memory(FakeCuda(), None):
        1 / 0  # noqa: B018  # raises
    with pytest.raises(NotImplementedError), catch_out_of_memory(FakeCuda(), None):  # a RuntimeError, unobserved
        raise NotImplementedError
