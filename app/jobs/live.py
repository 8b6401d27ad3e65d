"""This installation's own cards: what was measured on them beats what any catalogue says."""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import func, select

from app.db.database import Database
from app.db.models import Evidence
from app.jobs.scheduling import card_named
from planner.catalog import find_gpu
from planner.evidence.cards import CardRun, card_record, card_run
from planner.gpu import CardRecord, Gpu
from planner.measurement import Measurement

# A look asks only whether there is anything new.
REFRESH_SECONDS = 2.0
_OWN = "probe:"


@dataclass(slots=True)
class _Card:
    """What is known of one kind of card. Totals and contexts are those of this installation's own alone."""

    runs: list[CardRun] = field(default_factory=list)
    total_bytes: int | None = None
    context_bytes: int | None = None
    record: CardRecord | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The fields of the catalogue's card that were measured here."""
        if self.total_bytes is None:
            return {"record": self.record}
        changes = {
            "usable_bytes": self.total_bytes,
            "usable_evidence": "measured",
            "usable_source": "torch, on this installation's own card",
            "record": self.record,
        }
        return changes | ({"context_bytes": self.context_bytes} if self.context_bytes else {})

    def add(self, measurement: Measurement, run: CardRun | None, *, own: bool) -> None:
        """Take one measurement in; the newest comes last."""
        if run is not None:
            self.runs.append(run)
        if own and measurement.device.total_memory_bytes:
            self.total_bytes = measurement.device.total_memory_bytes
            # The largest context seen: kernels load lazily, so a short run sees less of it.
            self.context_bytes = max(self.context_bytes or 0, measurement.context_bytes or 0) or None


class LiveCards:
    """Readings by catalogue id, kept in memory so that a plan never asks the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # By catalogue id, the fields of a card that were measured here.
        self.changes: Mapping[str, Mapping[str, Any]] = {}
        self._read: object = None
        # A run is held to its plan once: the digest names it for good.
        self._runs: dict[str, CardRun | None] = {}
        self._refreshing = threading.Lock()

    def refresh(self) -> None:
        """Take up what CUDA runs showed since the last look; records that others share speak for no card's total.

        Raises:
            StorageUnavailableError: the database cannot be asked.
        """
        cuda = Evidence.instrument == "cuda"
        with self._refreshing:
            with self._database.reading() as session:
                newest = session.execute(select(func.count(), func.max(Evidence.created_at)).where(cuda)).one()
                if tuple(newest) == self._read:
                    return
                records = session.execute(select(Evidence).where(cuda).order_by(Evidence.created_at)).scalars().all()
            self.changes = {name: card.changes for name, card in self._fold(records).items()}
            self._read = tuple(newest)

    def __call__(self, gpu: Gpu) -> Gpu:
        """Return `gpu` with what was measured on its kind here, or as it is."""
        return replace(gpu, **self.changes.get(gpu.id, {}))

    def _fold(self, records: Sequence[Evidence]) -> dict[str, _Card]:
        cards: dict[str, _Card] = defaultdict(_Card)
        for record in records:
            measurement = Measurement.model_validate(record.measurement)
            if (name := card_named(measurement.device.name)) is None:
                continue
            if record.digest not in self._runs:
                self._runs[record.digest] = card_run(measurement, find_gpu(name))
            cards[name].add(measurement, self._runs[record.digest], own=record.origin.startswith(_OWN))
        for card in cards.values():
            card.record = card_record(card.runs)
        return dict(cards)
