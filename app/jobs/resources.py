"""A probe and a worker as plain documents, for the API and the pages."""

from datetime import UTC, datetime
from typing import Any

from app.db.models import Probe
from app.jobs.comparison import explanations, phase_comparison
from app.jobs.dispatch.roster import SeenWorker
from app.jobs.dispatch.scheduling import worker_bytes
from planner.measurement import Measurement


def probe_resource(probe: Probe) -> dict[str, Any]:
    """The contract's probe resource, and what a page needs beside it."""
    measurement = measurement_of(probe)
    return {
        "id": probe.id,
        "state": probe.state,
        "instrument": probe.instrument,
        "attempt": probe.attempt,
        "request": probe.request,
        "weights": probe.weights,
        "memory_limit_bytes": probe.memory_limit_bytes,
        "worker": probe.worker,
        "cancel_requested": probe.cancel_requested,
        "prediction": probe.prediction,
        "measurement": probe.measurement if measurement else None,
        "comparison": phase_comparison(probe.prediction, measurement) if measurement else None,
        "explanations": explanations(probe.prediction, measurement) if measurement else [],
        "error": probe.error,
        "created_at": moment(probe.created_at),
        "started_at": moment(probe.started_at),
        "finished_at": moment(probe.finished_at),
    }


def measurement_of(probe: Probe) -> Measurement | None:
    """The answer, once there is one."""
    answered = probe.state == "succeeded" and probe.measurement is not None
    return Measurement.model_validate(probe.measurement) if answered else None


def worker_resource(seen: SeenWorker) -> dict[str, Any]:
    """A worker, how busy it is, and what is wrong with it."""
    worker = seen.worker
    return {
        "id": worker.id,
        "engine": worker.engine,
        "kind": worker.kind,
        "name": worker.name,
        "card": worker.card,
        "total_memory_bytes": worker_bytes(worker),
        "compute_capability": worker.compute_capability,
        "driver": worker.driver,
        "slots": worker.slots,
        "busy": seen.busy,
        "plays": ["dry-run", "cpu"] if worker.kind == "cpu" else ["cuda"],
        "problem": seen.problem,
        "seen_at": moment(seen.seen_at),
    }


def moment(at: float | None) -> str | None:
    """Seconds since the epoch as RFC 3339."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
