"""This installation's own cards: what torch read on them beats what any catalogue says."""

from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import select

from app.db.database import Database
from app.db.models import Evidence
from app.jobs.placement import card_named
from planner.gpu import Gpu
from planner.measurement import Measurement

REFRESH_SECONDS = 30.0


class LiveCards:
    """Readings by catalogue id, kept in memory so that a plan never asks the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._readings: Mapping[str, Measurement] = {}

    def refresh(self) -> None:
        """Read what this installation's own CUDA probes saw; records that others share do not count.

        Raises:
            StorageUnavailableError: the database cannot be asked.
        """
        query = (
            select(Evidence.measurement)
            .where(Evidence.instrument == "cuda", Evidence.origin.startswith("probe:"))
            .order_by(Evidence.created_at)
        )
        with self._database.reading() as session:
            measurements = [Measurement.model_validate(document) for document in session.execute(query).scalars()]
        readings: dict[str, Measurement] = {}
        for measurement in measurements:
            card = card_named(measurement.device.name)
            if card is not None and measurement.device.total_memory_bytes:
                readings[card] = _newer(readings.get(card), measurement)
        self._readings = readings

    def __call__(self, gpu: Gpu) -> Gpu:
        """Return `gpu` with its total and context as read here, or as it is."""
        reading = self._readings.get(gpu.id)
        if reading is None or reading.device.total_memory_bytes is None:
            return gpu
        return replace(
            gpu,
            usable_bytes=reading.device.total_memory_bytes,
            usable_evidence="measured",
            usable_source="torch, on this installation's own card",
            context_bytes=reading.context_bytes or gpu.context_bytes,
        )


def _newer(known: Measurement | None, latest: Measurement) -> Measurement:
    """The latest reading, with the largest context seen: kernels load lazily, so a short run sees less of it."""
    sizes = [each.context_bytes for each in (known, latest) if each is not None and each.context_bytes]
    return latest.model_copy(update={"context_bytes": max(sizes, default=None)})
