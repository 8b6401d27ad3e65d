"""The events of a probe: numbered from 1, written in the transaction of the change they tell of."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.models import Event, Probe
from app.jobs.states import State, may_move


class StaleProbeError(Exception):
    """The probe is not in the state or attempt that this step starts from."""


def locked(session: Session, probe_id: str) -> Probe | None:
    """Read a probe with its row locked until this transaction ends."""
    return session.get(Probe, probe_id, with_for_update=True)


def move(session: Session, probe: Probe, end: State, at: float, error: str | None = None) -> None:
    """Take one step of the transition table and tell it as an event. `probe` must be locked.

    Raises:
        StaleProbeError: the table has no such step.
    """
    if not may_move(probe.state, end):
        msg = f"{probe.id} is {probe.state} and cannot become {end}"
        raise StaleProbeError(msg)
    probe.state = end
    if error is not None:
        probe.error = error
    body: dict[str, Any] = {"state": end, "attempt": probe.attempt}
    if error is not None:
        body["error"] = error
    if end == "succeeded" and probe.measurement:
        body["outcome"] = probe.measurement["outcome"]
    add_event(session, probe, "state", body, at)


def add_event(session: Session, probe: Probe, kind: str, body: Mapping[str, Any], at: float) -> None:
    """Append one event. `probe` must be locked, so that no number is given twice."""
    add_events(session, probe, kind, [body], at)


def add_events(session: Session, probe: Probe, kind: str, bodies: Iterable[Mapping[str, Any]], at: float) -> None:
    """Append several. `probe` must be locked."""
    newest = session.execute(select(func.max(Event.seq)).where(Event.probe_id == probe.id)).scalar_one() or 0
    session.add_all(
        Event(probe_id=probe.id, seq=seq, attempt=probe.attempt, kind=kind, at=at, body=dict(body))
        for seq, body in enumerate(bodies, start=newest + 1)
    )
    session.flush()
