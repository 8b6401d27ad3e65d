"""One measurement on real CPU tensors, counted by a dispatch mode as CUDA's allocator would round them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import bitsandbytes as bnb
import torch

from planner.measurement import DeviceReading
from planner.probe.meters.live import LiveMeter
from planner.probe.progress import watching
from planner.probe.report import Outcome
from planner.probe.training.patching import Patch, patched
from planner.probe.training.phases import Job, story


def cpu_outcome(job: Job) -> Outcome:
    """Run the whole story on this machine's processor."""
    return Outcome(phases=watched_run(job).readings(), device=DeviceReading(name="cpu"))


def watched_run(job: Job) -> LiveMeter:
    """Run the whole story under a live meter, which is returned with its readings inside."""
    meter = LiveMeter(tell=job.tell)
    made_on_host = Patch(bnb.functional, "create_dynamic_map", _table_made_on_host(meter))
    with own_quantization_tables(), patched([made_on_host]):
        with meter, watching(meter, job.tell):
            trained = story(job, torch.device("cpu"), meter)
        trained.verify()
    return meter


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


def _table_made_on_host(meter: LiveMeter) -> Callable[..., torch.Tensor]:
    """bitsandbytes computes its 8-bit table in host memory and moves the result."""
    original: Any = bnb.functional.create_dynamic_map

    def create(*args: Any, **kwargs: Any) -> torch.Tensor:
        with meter.on_host():
            table: torch.Tensor = original(*args, **kwargs)
        meter.adopt(table)
        return table

    return create
