"""A watched step writes gradients as an unwatched one does: sums in place, but for views, and rows into zeros."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from planner.probe.devices import cpu
from planner.probe.devices.cpu import own_quantization_tables
from planner.probe.meters.live import LiveMeter
from planner.probe.options import Options
from planner.probe.training.configs import config_of
from planner.probe.training.patching import Patch, patched
from planner.probe.training.phases import Job, story
from planner.request.recipe import Recipe
from planner.request.schema import Request
from tests.probe.tiny import request, watch

ENGINE = "autograd::engine::evaluate_function"
# The loop adds up its losses, too.
A_LOSS_BYTES = 4
KEPT = {"max_length": 128, "gradient_checkpointing": False}
SETTINGS = [
    ("llama", {"stack": "trainer"}), ("llama", {"stack": "trl"}), ("llama", {"stack": "loop", "method": "full"}),
    ("gemma2", {"stack": "kbit"}), ("mixtral", {"stack": "loop", "lora": {"target_modules": ["q_proj"]}}),
]  # fmt: skip


class Profiled:
    """Watches the last backward pass by torch's own profiler, which is no dispatch mode; reads nothing else."""

    def __init__(self) -> None:
        self.profile: profile | None = None

    def begin(self, phase: str) -> None:
        if phase == "backward":
            self.profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            self.profile.start()
        if phase == "optimizer":
            assert self.profile is not None
            self.profile.stop()

    @contextmanager
    def on_host(self) -> Iterator[None]:
        yield


def allocated_by_sums_unwatched(asked: Request) -> list[int]:
    """Bytes of every sum that the engine made out of place."""
    recipe, meter = Recipe.of(asked), Profiled()
    job = Job(asked, recipe, config_of(asked, recipe), Options(steps=2, instrument="cpu"), lambda *_: None)
    with own_quantization_tables():
        story(job, torch.device("cpu"), meter)
    assert meter.profile is not None
    sums = [
        event
        for event in meter.profile.events() or []
        if event.name == "aten::add" and event.cpu_parent and event.cpu_parent.name.startswith(ENGINE)
    ]
    return sorted(event.cpu_memory_usage for event in sums)


class Recording(LiveMeter):
    """Keeps what was asked for by which operator in which phase."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.phase = self.operator = ""
        self.made: list[tuple[str, str, int]] = []

    def begin(self, phase: str) -> None:
        self.phase = phase
        super().begin(phase)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operator = str(func)
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _alloc(self, size_bytes: int) -> int:
        self.made.append((self.phase, self.operator, size_bytes))
        return super()._alloc(size_bytes)


def allocated_by_sums_watched(asked: Request) -> list[int]:
    """The same under the meter, whose backward pass makes no other sums when nothing is recomputed."""
    with patched([Patch(cpu, "LiveMeter", Recording)]):
        meter = watch(asked)
    assert isinstance(meter, Recording)
    return sorted(
        size_bytes
        for phase, operator, size_bytes in meter.made
        if phase == "backward" and operator == "aten.add.Tensor" and size_bytes > A_LOSS_BYTES
    )


@pytest.mark.parametrize(("model", "parts"), SETTINGS)
def test_the_meter_counts_the_sums_that_the_engine_makes_out_of_place_and_no_others(
    model: str, parts: dict[str, object]
) -> None:
    asked = request(model, training=KEPT, **parts)
    assert allocated_by_sums_watched(asked) == allocated_by_sums_unwatched(asked)


def test_a_linear_layer_hands_back_a_view_which_is_never_added_to_in_place() -> None:
    """Only where nothing casts it on the way: the bf16 adapters of TRL, not the float32 ones of the Trainer."""
    assert allocated_by_sums_watched(request(training=KEPT, stack="trl"))
    assert not allocated_by_sums_watched(request(training=KEPT, stack="trainer"))


ROWS = torch.tensor([3, 1])
PICKS = {
    "rows": lambda x: x[ROWS],
    "gather": lambda x: x.gather(0, ROWS.expand(64, 2).T),
    "top-k": lambda x: x.topk(2).values,
    "maximum": lambda x: x.max(-1).values,
    "index select": lambda x: x.index_select(0, ROWS),
    "mask": lambda x: x.masked_select(x > 0),
}


@pytest.mark.parametrize("pick", PICKS.values(), ids=PICKS.keys())
def test_what_was_picked_is_put_back_into_zeros_in_place(pick: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """torch's derivatives do it out of place under any dispatch mode, a meter's among them."""
    values = torch.randn(32, 64, requires_grad=True)
    with Recording() as meter:
        picked = pick(values * 1.0)
        meter.begin("backward")
        picked.sum().backward()
    whole = [operator for _, operator, size_bytes in meter.made if size_bytes == 32 * 64 * 4]
    made = [label for label in whole if label not in {"aten.mul.Tensor", "aten.gt.Scalar"}]
    assert made in (["aten.new_zeros.default"], ["aten.zeros.default"], ["aten.zeros_like.default"])
    assert values.grad is not None
    assert values.grad.count_nonzero() == picked.numel()
