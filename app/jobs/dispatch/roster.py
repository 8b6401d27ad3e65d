"""The workers as the dispatcher sees them, in the database, so that every replica's page shows the same."""

import asyncio
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, select

from app.db.database import Database, StorageUnavailableError
from app.db.models import Probe
from app.db.models import Worker as WorkerRow
from app.engines.base import Worker
from app.jobs.dispatch.lease import LeaseLostError
from app.jobs.dispatch.probe_store import ProbeStore
from app.jobs.states import LIVE

_LOG = logging.getLogger(__name__)
_REFRESH_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """A worker, how many of its slots are taken, and what is wrong with its engine, if anything."""

    worker: Worker
    busy: int
    problem: str | None
    seen_at: float


class Roster:
    """Writes what changed, and every 20 s even without a change, so that readers see it is alive."""

    def __init__(self, database: Database, store: ProbeStore) -> None:
        self._database = database
        self._store = store
        self._shown: tuple[Worker, ...] | None = None
        self._trouble: str | None = None
        self._written_at = -math.inf

    async def show(self, engine: str, workers: Sequence[Worker]) -> None:
        """Replace what is known of `engine`."""
        now = time.monotonic()
        if self._trouble is not None:
            _LOG.info("the engine answers again", extra={"engine": engine})
        if (tuple(workers), None) == (self._shown, self._trouble) and now < self._written_at + _REFRESH_SECONDS:
            return
        rows = [WorkerRow(id=each.id, body=asdict(each), problem=None, seen_at=time.time()) for each in workers]
        await asyncio.to_thread(self._store.replace_workers, engine, rows)
        self._shown, self._trouble, self._written_at = tuple(workers), None, now

    async def trouble(self, engine: str, problem: str) -> None:
        """Mark the workers of an engine that does not answer. Their probes keep waiting."""
        if problem == self._trouble:
            return
        _LOG.warning("an engine cannot be used: %s", problem, extra={"engine": engine})
        self._trouble = problem
        try:
            await asyncio.to_thread(self._store.mark_workers, engine, problem)
        except (StorageUnavailableError, LeaseLostError):
            # The database cannot be used, or another replica holds the lease; both are logged.
            return


def seen_workers(database: Database) -> list[SeenWorker]:
    """Every worker as seen last, busy slots counted now."""
    counts = select(Probe.worker, func.count()).where(Probe.state.in_(LIVE)).group_by(Probe.worker)
    with database.reading() as session:
        busy = {row[0]: row[1] for row in session.execute(counts)}
        rows = session.execute(select(WorkerRow).order_by(WorkerRow.id)).scalars().all()
    return [SeenWorker(_worker(row.body), busy.get(row.id, 0), row.problem, row.seen_at) for row in rows]


def _worker(body: Mapping[str, Any]) -> Worker:
    """Read a row; a replica of another version may have written facts that this one does not know."""
    return Worker(**{name: body[name] for name in Worker.__slots__ if name in body})
