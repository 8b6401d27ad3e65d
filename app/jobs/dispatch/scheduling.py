"""Which worker may run which probe, and what it must pretend to be. Pure: rows and workers in, choices out."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.engines.base import Job, Worker
from app.jobs.order import SYNTHETIC
from planner.catalog.gpu_rows import gpu_catalog
from planner.errors import UnknownGpuError
from planner.gpu import Gpu

# The engine gives the probe this long to end itself at its own deadline.
ENGINE_GRACE_SECONDS = 10


class Placeable(Protocol):
    """What decides where a probe can run."""

    instrument: str
    card: str | None
    card_bytes: int | None
    memory_limit_bytes: int | None


class PlacedProbe(Placeable, Protocol):
    """What decides how it is started there."""

    id: str
    attempt: int
    weights: str
    deadline_seconds: int
    request: dict[str, Any]
    config: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a worker suits a probe: the very card, a larger one that plays it, or one of unknown size."""

    rank: int
    spare_bytes: int = 0


def card_named(name: str, _total_memory_bytes: int | None = None) -> str | None:
    """Return the catalogue's id for the name a driver or a cluster gives a card, None where it has no single one."""
    gpu = _known_card(name)
    return gpu.id if gpu else None


def suits(probe: Placeable, worker: Worker) -> Fit | None:
    """How well `worker` can run `probe`, None if it cannot."""
    if probe.instrument != "cuda":
        return Fit(0) if worker.kind == "cpu" else None
    if worker.kind != "gpu":
        return None
    if probe.card is not None and worker.card == probe.card:
        return Fit(0)
    size_bytes = worker_bytes(worker)
    wanted_bytes = probe.memory_limit_bytes or probe.card_bytes
    if size_bytes is None or wanted_bytes is None:
        return Fit(2)
    return Fit(1, size_bytes - wanted_bytes) if size_bytes >= wanted_bytes else None


def worker_bytes(worker: Worker) -> int | None:
    """What the worker's card holds: its own word, else the catalogue's."""
    if worker.total_memory_bytes is not None:
        return worker.total_memory_bytes
    gpu = _known_card(worker.card) if worker.card else None
    return gpu.usable_bytes if gpu else None


def free_slots(workers: Iterable[Worker], busy: Iterable[str | None]) -> Counter[str]:
    """Slots left per worker id."""
    free = Counter({worker.id: worker.slots for worker in workers})
    free.subtract(worker for worker in busy if worker is not None)
    return free


def choose(probe: Placeable, workers: Sequence[Worker], free: Mapping[str, int]) -> Worker | None:
    """Pick the best free worker: the card asked for before the smallest that can play it."""
    fits = [(fit, worker) for worker in workers if free.get(worker.id, 0) > 0 and (fit := suits(probe, worker))]
    return min(fits, key=lambda pair: (pair[0].rank, pair[0].spare_bytes, pair[1].id))[1] if fits else None


def job_for(probe: PlacedProbe, worker: Worker) -> Job:
    """Write the attempt down as the engine starts it."""
    arguments = ["--on", probe.instrument, "--deadline", str(probe.deadline_seconds)]
    if (limit_bytes := _limit_bytes(probe, worker)) is not None:
        arguments += ["--memory-limit", str(limit_bytes)]
    if probe.weights != SYNTHETIC:
        arguments += ["--weights", probe.weights]
    # The probe fetches nothing: a hub model's config, read by the app, goes with the request.
    document = probe.request if probe.config is None else {**probe.request, "model": probe.config}
    return Job(
        ref=ref_of(probe),
        worker=worker.id,
        kind=worker.kind,
        arguments=tuple(arguments),
        document=json.dumps(document),
        timeout_seconds=probe.deadline_seconds + ENGINE_GRACE_SECONDS,
        needs_hub=probe.weights == "hub",
    )


def ref_of(probe: PlacedProbe) -> str:
    """The name of this attempt: key, fence and the engine's own id in one."""
    return f"{probe.id}-{probe.attempt}"


def _limit_bytes(probe: PlacedProbe, worker: Worker) -> int | None:
    if probe.memory_limit_bytes is not None or probe.instrument != "cuda":
        return probe.memory_limit_bytes
    return None if worker.card == probe.card else probe.card_bytes


def _known_card(name: str) -> Gpu | None:
    try:
        return gpu_catalog().find(name).gpu
    except UnknownGpuError:
        return None
