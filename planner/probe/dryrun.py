"""The dry run's world: fake tensors, and the kernel choices of the card it follows."""

from collections.abc import Iterator
from contextlib import contextmanager

from planner.probe.fakes import fake_tensors
from planner.probe.follow import follow_cuda
from planner.probe.meters.live import LiveMeter
from planner.probe.target import Target
from planner.recipe import Recipe


@contextmanager
def dry_run(recipe: Recipe, target: Target, meter: LiveMeter) -> Iterator[None]:
    """Fake tensors inside; where `target` is a card, its kernels and its loader's habits too. Undone on exit."""
    with fake_tensors(recipe):
        if not target.is_cuda:
            yield
            return
        with follow_cuda(recipe, target, meter):
            yield
