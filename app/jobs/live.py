"""This installation's own cards: what was measured on them beats what any catalogue says."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from sqlalchemy import func, select

from app.compute.questions import CARD_RUN
from app.db.database import Database
from app.db.models import Evidence
from app.jobs.dispatch.scheduling import card_named
from planner.errors import FitproofError
from planner.evidence.cards import CardRun, card_record
from planner.gpu import CardRecord
from planner.measurement import Measurement

# A look asks only whether there is anything new.
REFRESH_SECONDS = 2.0
_OWN = "probe:"
# For whom the workers hold runs to their plans.
_CLIENT = "evidence"
# A run that is refused this often takes more time than any plan may.
_MOST_REFUSALS = 5

# Asks a worker at an address of `app.compute.internal`, for a client.
Ask = Callable[[str, Any, str], Awaitable[Any]]


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
    """Readings by catalogue id, kept in memory so that a plan never asks the database. `ask` asks a worker."""

    def __init__(self, database: Database, ask: Ask) -> None:
        self._database, self._ask = database, ask
        # By catalogue id, the fields of a card that were measured here.
        self.changes: Mapping[str, Mapping[str, Any]] = {}
        self._read: object = None
        # A run is held to its plan once: the digest names it for good.
        self._runs: dict[str, CardRun | None] = {}
        self._refused: Counter[str] = Counter()
        self._refreshing = asyncio.Lock()

    async def refresh(self) -> None:
        """Take up what CUDA runs showed since the last look; records that others share speak for no card's total.

        Raises:
            StorageUnavailableError: the database cannot be asked.
        """
        async with self._refreshing:
            newest, records = await asyncio.to_thread(self._newer)
            if not records:
                return
            told = True
            for record, card in records:
                if record.digest not in self._runs:
                    told = await self._hold_to_plan(record, card) and told
            self.changes = {name: card.changes for name, card in self._fold(records).items()}
            if told:
                self._read = newest

    def _newer(self) -> tuple[object, list[tuple[Evidence, str]]]:
        """Every record of a card that the catalogue knows, with its id; none where nothing is new."""
        cuda = Evidence.instrument == "cuda"
        with self._database.reading() as session:
            newest = tuple(session.execute(select(func.count(), func.max(Evidence.created_at)).where(cuda)).one())
            if newest == self._read:
                return newest, []
            records = session.execute(select(Evidence).where(cuda).order_by(Evidence.created_at)).scalars().all()
        return newest, [(each, name) for each in records if (name := card_named(each.device_name)) is not None]

    async def _hold_to_plan(self, record: Evidence, card: str) -> bool:
        """Have one run held to its plan; False where the workers have no time for it now."""
        try:
            said = await self._ask(CARD_RUN, {"measurement": record.measurement, "card": card}, _CLIENT)
        except FitproofError as error:
            self._refused[record.digest] += 1
            if error.status == HTTPStatus.SERVICE_UNAVAILABLE and self._refused[record.digest] < _MOST_REFUSALS:
                return False
            said = None
        self._refused.pop(record.digest, None)
        self._runs[record.digest] = _run_of(said) if said else None
        return True

    def _fold(self, records: Sequence[tuple[Evidence, str]]) -> dict[str, _Card]:
        cards: dict[str, _Card] = defaultdict(_Card)
        for record, name in records:
            measurement = Measurement.model_validate(record.measurement)
            cards[name].add(measurement, self._runs.get(record.digest), own=record.origin.startswith(_OWN))
        for card in cards.values():
            card.record = card_record(card.runs)
        return dict(cards)


def _run_of(said: Mapping[str, Any]) -> CardRun:
    lost = said["lost"]
    return CardRun(**{**said, "lost": (tuple(lost[0]), lost[1]) if lost else None})
