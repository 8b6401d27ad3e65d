"""Reading probes and asking for their end: what the API and the site need."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, func, or_, select

from app.db.database import Database
from app.db.models import Event, Probe
from app.jobs.probe_events import add_event, locked, move
from app.jobs.states import is_final
from planner.errors import FieldProblem, FitproofError


class UnknownProbeError(FitproofError):
    """No probe has this id."""

    status = 404
    code = "unknown_probe"


class NotYoursError(FitproofError):
    """The probe is another token's."""

    status = 403
    code = "not_yours"


@dataclass(frozen=True, slots=True)
class Page:
    """Some probes, newest first, and where the next page starts."""

    probes: tuple[Probe, ...]
    next_cursor: str | None


def get_probe(database: Database, probe_id: str) -> Probe:
    """Look a probe up.

    Raises:
        UnknownProbeError: there is none.
    """
    with database.reading() as session:
        probe = session.get(Probe, probe_id)
    if probe is None:
        raise _unknown(probe_id)
    return probe


def list_probes(database: Database, state: str | None, cursor: str | None, limit: int) -> Page:
    """Newest first. `cursor` is the id that the page before ended on.

    Raises:
        UnknownProbeError: the cursor is no probe's id.
    """
    query = select(Probe).order_by(Probe.created_at.desc(), Probe.id.desc()).limit(limit + 1)
    if state is not None:
        query = query.where(Probe.state == state)
    if cursor is not None:
        last = get_probe(database, cursor)
        earlier = Probe.created_at < last.created_at
        query = query.where(or_(earlier, and_(Probe.created_at == last.created_at, Probe.id < last.id)))
    with database.reading() as session:
        probes = tuple(session.execute(query).scalars())
    return Page(probes[:limit], probes[limit - 1].id if len(probes) > limit else None)


def events_after(database: Database, probe_id: str, seq: int, limit: int = 500) -> tuple[str, Sequence[Event]]:
    """Return the probe's state and its events numbered above `seq`.

    The state is read first: where it is final, the events read after it are all there will ever be.

    Raises:
        UnknownProbeError: no probe has this id.
    """
    query = select(Event).where(Event.probe_id == probe_id, Event.seq > seq).order_by(Event.seq).limit(limit)
    with database.reading() as session:
        state = session.execute(select(Probe.state).where(Probe.id == probe_id)).scalar_one_or_none()
        events = session.execute(query).scalars().all()
    if state is None:
        raise _unknown(probe_id)
    return state, events


def latest_events(database: Database, probe_ids: Collection[str]) -> dict[str, int]:
    """Return the number of the newest event of each probe; a probe that was removed has none."""
    query = select(Event.probe_id, func.max(Event.seq)).where(Event.probe_id.in_(probe_ids)).group_by(Event.probe_id)
    with database.reading() as session:
        return {row[0]: row[1] for row in session.execute(query)}


def ask_to_cancel(database: Database, probe_id: str, owner: str | None = None) -> Probe:
    """End a queued probe at once; ask for the end of a live one. A finished one stays as it is.

    `owner`: the client, unless it is the operator, who may end all.

    Raises:
        UnknownProbeError: no probe has this id.
        NotYoursError: it belongs to another owner.
    """
    with database.writing() as session:
        probe = locked(session, probe_id)
        if probe is None:
            raise _unknown(probe_id)
        if owner is not None and probe.owner != owner:
            problem = FieldProblem("id", "end your own probes; the operator of this server may end all")
            raise NotYoursError(f"The probe {probe_id!r} was asked for with another token.", [problem])
        if is_final(probe.state) or probe.cancel_requested:
            return probe
        probe.cancel_requested = True
        if probe.state == "queued":
            probe.finished_at = time.time()
            move(session, probe, "cancelled", probe.finished_at)
        else:
            add_event(session, probe, "note", {"message": "cancelling"}, time.time())
        return probe


def _unknown(probe_id: str) -> UnknownProbeError:
    problem = FieldProblem("id", "list the probes with GET /api/v1/probes")
    return UnknownProbeError(f"There is no probe {probe_id!r}.", [problem])
