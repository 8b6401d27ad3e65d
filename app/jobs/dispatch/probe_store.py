"""The dispatcher's reads and writes. A write whose fencing token or attempt number is out of date changes nothing."""

import time
from collections.abc import Callable, Sequence

from sqlalchemy import ColumnElement, delete, false, not_, or_, select, tuple_, update
from sqlalchemy.orm import Session

from app.db.database import Database
from app.db.models import Probe
from app.db.models import Worker as WorkerRow
from app.engines.base import LogPage, Status, Worker
from app.jobs.comparison import prediction_error
from app.jobs.dispatch.deadlines import MAX_POSTPONED_SECONDS
from app.jobs.dispatch.lease import Fence
from app.jobs.dispatch.progress import MOST_LINES_KEPT, read_progress
from app.jobs.evidence import keep
from app.jobs.probe_events import StaleProbeError, add_event, add_events, locked, move
from app.jobs.states import FINAL, LIVE, State
from planner.measurement import Measurement

MOST_FAULTS = 6
# Well under the 32,766 variables of one SQLite statement (https://sqlite.org/limits.html).
_IDS_AT_ONCE = 1_000


class ProbeStore:
    """Writes for one holder of the lease. `probe` arguments are snapshots; the row itself is read anew and locked."""

    def __init__(self, database: Database, fence: Fence) -> None:
        self._database = database
        self._fence = fence

    def live(self, engine: str) -> Sequence[Probe]:
        """Snapshots of the live probes of `engine`, oldest first."""
        query = select(Probe).where(Probe.engine == engine, Probe.state.in_(LIVE)).order_by(Probe.created_at, Probe.id)
        with self._database.reading() as session:
            return session.execute(query).scalars().all()

    def of_other_engines(self, engines: Sequence[str]) -> Sequence[Probe]:
        """Snapshots of live probes whose engine is none of `engines`."""
        query = select(Probe).where(Probe.engine.not_in(engines), Probe.state.in_(LIVE))
        with self._database.reading() as session:
            return session.execute(query).scalars().all()

    def waiting(self, instruments: Sequence[str], limit: int = 500) -> Sequence[Probe]:
        """Snapshots of the queue for these instruments, oldest first."""
        query = (
            select(Probe)
            .where(Probe.state == "queued", Probe.instrument.in_(instruments), _is_due(time.time()))
            .order_by(Probe.created_at, Probe.id)
            .limit(limit)
        )
        with self._database.reading() as session:
            return session.execute(query).scalars().all()

    def reread(self, probe: Probe) -> Probe:
        """Read a fresh snapshot.

        Raises:
            StaleProbeError: it left the state or attempt of the old one.
        """
        with self._database.reading() as session:
            row = session.get_one(Probe, probe.id)
        if row.state not in LIVE or row.attempt != probe.attempt:
            raise StaleProbeError(probe.id)
        return row

    def busy(self) -> Sequence[str]:
        """The worker of every live probe, one entry each."""
        with self._database.reading() as session:
            query = select(Probe.worker).where(Probe.state.in_(LIVE), Probe.worker.is_not(None))
            return [worker for worker in session.execute(query).scalars() if worker is not None]

    def finished_before(self, before: float, after: tuple[str, float], limit: int = 50) -> Sequence[Probe]:
        """Snapshots of probes that ended before a time and may still have files in an engine, one page at a time.

        `after` is the id and the end of the page's last one, so that one that cannot be deleted blocks no other.
        """
        past = tuple_(Probe.finished_at, Probe.id) > (after[1], after[0])
        query = select(Probe).where(Probe.forgotten.is_(False), Probe.finished_at < before, past)
        with self._database.reading() as session:
            return session.execute(query.order_by(Probe.finished_at, Probe.id).limit(limit)).scalars().all()

    def with_files_needed(self, ids: Sequence[str]) -> set[str]:
        """Select the probes whose files are still needed; an id that is not in the database needs none."""
        wanted: set[str] = set()
        for start in range(0, len(ids), _IDS_AT_ONCE):
            asked = ids[start : start + _IDS_AT_ONCE]
            query = select(Probe.id).where(Probe.id.in_(asked), Probe.forgotten.is_(False))
            with self._database.reading() as session:
                wanted |= set(session.execute(query).scalars())
        return wanted

    def prune(self, before: float, kept: int, limit: int = 50) -> int:
        """Remove probes that ended before a time, all but the `kept` youngest of them, with their events.

        At most `limit` in one transaction, so that no writer waits long for the lock. Returns how many were removed.
        """
        ended = (Probe.forgotten.is_(True), Probe.finished_at < before, Probe.state.in_(FINAL))
        surplus = (
            select(Probe.id).where(*ended).order_by(Probe.finished_at.desc(), Probe.id.desc()).offset(kept).limit(limit)
        )
        with self._database.writing() as session:
            self._fence.check(session)
            ids = session.execute(surplus).scalars().all()
            # Their events go by the foreign key's cascade.
            session.execute(delete(Probe).where(Probe.id.in_(ids)))
        return len(ids)

    def claim(self, probe: Probe, worker: Worker) -> bool:
        """Give a queued probe to a worker; False if it was cancelled or taken meanwhile."""

        def write(session: Session, row: Probe, now: float) -> None:
            row.engine, row.worker = worker.engine, worker.id
            row.seen, row.log_offset, row.claimed_at = False, 0, now
            move(session, row, "claimed", now)

        try:
            self._write(probe, "queued", write)
        except StaleProbeError:
            return False
        return True

    def mark_seen(self, probe: Probe, status: Status) -> None:
        """Record that the engine knows this attempt, pending or running."""

        def write(session: Session, row: Probe, now: float) -> None:
            if status.phase == "pending" and not row.seen:
                add_event(session, row, "note", {"message": status.reason}, now)
            row.seen = True
            if status.phase == "running" and row.state == "claimed":
                row.started_at = now
                move(session, row, "running", now)

        self._write(probe, probe.state, write)

    def record(self, probe: Probe, page: LogPage) -> None:
        """Store the log's progress lines in one transaction with the log offset: none twice, none skipped."""
        progress = read_progress(page.lines)

        def write(session: Session, row: Probe, now: float) -> None:
            if row.log_offset != probe.log_offset:
                raise StaleProbeError(row.id)
            row.log_offset = page.next_offset
            room = max(0, MOST_LINES_KEPT - row.lines_kept)
            add_events(session, row, "progress", progress.events[:room], now)
            row.lines_kept += len(progress.events)
            row.measurement = progress.measurement or row.measurement
            row.last_words = progress.sentence or row.last_words

        self._write(probe, probe.state, write)

    def finish(self, probe: Probe, end: State, error: str | None) -> None:
        """End a probe; a measurement that counts joins the evidence in the same transaction."""

        def write(session: Session, row: Probe, now: float) -> None:
            row.finished_at = now
            row.started_at = row.started_at or row.claimed_at
            if end != "succeeded":
                row.measurement = None
            move(session, row, end, now, error)
            if row.measurement is not None:
                measurement = Measurement.model_validate(row.measurement)
                row.outcome = measurement.outcome
                row.prediction_error = prediction_error(row.prediction, measurement)
                keep(session, measurement, f"probe:{row.id}", now, row.fingerprint)

        self._write(probe, probe.state, write)

    def requeue(self, probe: Probe, reason: str, *, with_server: bool = False) -> None:
        """Queue the next attempt. What the lost one still prints is ignored, as its attempt number differs."""

        def write(session: Session, row: Probe, now: float) -> None:
            add_event(session, row, "note", {"message": reason, "attempt": row.attempt}, now)
            row.attempt += 1
            row.server_ends += with_server
            row.worker = row.started_at = row.claimed_at = row.measurement = row.last_words = None
            row.seen, row.log_offset, row.faults = False, 0, 0
            row.not_before = now + 0.5 * row.attempt
            move(session, row, "queued", now)

        self._write(probe, probe.state, write)

    def fault(self, probe: Probe, reason: str, most: int = MOST_FAULTS) -> None:
        """Postpone a probe that the dispatcher failed on; fail it after `most` such faults."""

        def write(session: Session, row: Probe, now: float) -> None:
            row.faults += 1
            row.not_before = now + 2.0**row.faults
            if row.faults >= most:
                row.finished_at = now
                move(session, row, "failed", now, f"the dispatcher cannot handle this probe: {reason}")

        self._write(probe, probe.state, write)

    def forget(self, probe: Probe) -> None:
        """Record that no engine keeps files of this probe any more."""

        def write(_session: Session, row: Probe, _now: float) -> None:
            row.forgotten = True

        self._write(probe, probe.state, write)

    def replace_workers(self, engine: str, rows: Sequence[WorkerRow]) -> None:
        """Replace the workers listed for `engine`."""
        with self._database.writing() as session:
            self._fence.check(session)
            session.execute(delete(WorkerRow).where(WorkerRow.id.startswith(f"{engine}:")))
            session.add_all(rows)

    def remove_unknown_workers(self, engines: Sequence[str]) -> None:
        """Remove the workers of engines that are no longer configured."""
        with self._database.writing() as session:
            self._fence.check(session)
            ours = [WorkerRow.id.startswith(f"{engine}:") for engine in engines]
            session.execute(delete(WorkerRow).where(not_(or_(false(), *ours))))

    def mark_workers(self, engine: str, problem: str) -> None:
        """Record what is wrong with `engine`; its workers stay listed."""
        with self._database.writing() as session:
            self._fence.check(session)
            session.execute(update(WorkerRow).where(WorkerRow.id.startswith(f"{engine}:")).values(problem=problem))

    def _write(self, probe: Probe, state: str, change: Callable[[Session, Probe, float], None]) -> None:
        with self._database.writing() as session:
            self._fence.check(session)
            row = locked(session, probe.id)
            if row is None or row.state != state or row.attempt != probe.attempt:
                raise StaleProbeError(probe.id)
            change(session, row, time.time())


def _is_due(now: float) -> ColumnElement[bool]:
    """As `deadlines.is_due`."""
    return or_(Probe.not_before <= now, Probe.not_before > now + MAX_POSTPONED_SECONDS)
