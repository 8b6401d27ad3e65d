"""Taking an order in: written before anything starts, once per idempotency key, never past the queue's limit."""

import secrets
import time
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session

from app.db.database import Database
from app.db.models import Lease, Probe
from app.jobs.order import Settled
from app.jobs.probe_events import add_event
from app.jobs.states import LIVE
from planner.errors import FieldProblem, FitproofError, InvalidRequestError

QUEUE = "queue"


class QueueFullError(FitproofError):
    """As many probes wait as this installation allows."""

    status = 429
    code = "queue_full"
    headers = {"Retry-After": "30"}  # noqa: RUF012 (read only, in the shape problems.py takes)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who asks, and the key under which the same question counts once."""

    owner: str
    idempotency_key: str | None = None
    is_operator: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """How many probes may wait, and how many of one owner may wait or run."""

    most: int
    most_each: int | None = None


def take_in(database: Database, settled: Settled, sender: Sender, room: Room) -> Probe:
    """Record a probe as queued, or find the one that this key already stands for.

    Raises:
        QueueFullError: the queue is at its limit, or the sender has as many probes as one may.
        InvalidRequestError: the key was used for another question, or the database cannot hold the probe.
    """
    if (known := find_repeat(database, sender, settled.order.body_sha256)) is not None:
        return known
    probe = _new_probe(settled, sender)
    try:
        with database.writing() as session:
            _check_room(session, sender.owner, room)
            session.add(probe)
            session.flush()
            add_event(session, probe, "state", {"state": "queued", "attempt": 1}, probe.created_at)
    except IntegrityError:
        # Another replica took the same key in between our look and our write.
        if (known := find_repeat(database, sender, settled.order.body_sha256)) is not None:
            return known
        raise
    except (DataError, OverflowError):
        problem = FieldProblem("request", "has a number that is too large to be kept; no such model can be probed")
        raise InvalidRequestError("The probe cannot be recorded.", [problem]) from None
    return probe


def find_repeat(database: Database, sender: Sender, body_sha256: str) -> Probe | None:
    """Return the probe this sender's key already stands for, None for a new or missing key.

    Raises:
        InvalidRequestError: the key was used for another question.
    """
    if sender.idempotency_key is None:
        return None
    query = select(Probe).where(Probe.owner == sender.owner, Probe.idempotency_key == sender.idempotency_key)
    with database.reading() as session:
        known = session.execute(query).scalar_one_or_none()
    if known is not None and known.body_sha256 != body_sha256:
        fix = f"stands for probe {known.id}, which asked something else; use a new key"
        problem = FieldProblem("Idempotency-Key", fix)
        raise InvalidRequestError("This idempotency key was used for another request.", [problem])
    return known


def _check_room(session: Session, owner: str, room: Room) -> None:
    # Held to the end of the transaction, so that two replicas cannot both take the last place.
    session.get_one(Lease, QUEUE, with_for_update=True)
    count = select(func.count()).select_from(Probe)
    waiting = session.execute(count.where(Probe.state == "queued")).scalar_one()
    if waiting >= room.most:
        title = f"{waiting} probes wait, the most this installation queues (FITPROOF_QUEUE_LIMIT); try again later"
        raise QueueFullError(title)
    if room.most_each is None:
        return
    own = session.execute(count.where(Probe.owner == owner, Probe.state.in_(("queued", *LIVE)))).scalar_one()
    if own >= room.most_each:
        title = f"{own} probes of this token wait or run, the most it may have (FITPROOF_QUEUE_LIMIT_EACH)"
        raise QueueFullError(f"{title}; try again later")


def _new_probe(settled: Settled, sender: Sender) -> Probe:
    order = settled.order
    return Probe(
        id=secrets.token_hex(8),
        state="queued",
        instrument=settled.instrument,
        request=dict(order.document),
        config=dict(settled.config) if settled.config else None,
        fingerprint=order.fingerprint,
        weights=order.switches.weights,
        memory_limit_bytes=order.switches.memory_limit_bytes,
        card=settled.card,
        card_bytes=settled.card_bytes,
        params=settled.params,
        deadline_seconds=settled.deadline_seconds,
        prediction=dict(settled.prediction) if settled.prediction else None,
        owner=sender.owner,
        idempotency_key=sender.idempotency_key,
        body_sha256=order.body_sha256,
        attempt=1,
        created_at=time.time(),
    )
