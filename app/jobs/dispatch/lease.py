"""One dispatcher among several replicas: a row with a holder, an end, and a fence that grows with each change of hands.

Every write of the dispatcher checks the fence in its own transaction. A replica that was paused past its lease and
wakes up can therefore write nothing, whatever it believes.
"""

import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.database import Database
from app.db.models import Lease
from app.engines.procfs import start_ticks

DISPATCHER = "dispatcher"
LEASE_SECONDS = 10.0


class LeaseLostError(Exception):
    """Another replica dispatches now."""


@dataclass(frozen=True, slots=True)
class Fence:
    """Proof of holding a lease, until another holder takes it over."""

    holder: str
    number: int

    def check(self, session: Session) -> None:
        """Hold the lease row still for this transaction.

        Raises:
            LeaseLostError: it changed hands.
        """
        query = select(Lease.fence).where(Lease.name == DISPATCHER).with_for_update(read=True)
        if session.execute(query).scalar_one_or_none() != self.number:
            raise LeaseLostError


class DispatcherLease:
    """The right to dispatch, for `seconds` at a time."""

    def __init__(self, database: Database, seconds: float = LEASE_SECONDS) -> None:
        self._database = database
        self._seconds = seconds
        self.holder = f"{_place()}/{os.getpid()}.{start_ticks(os.getpid())}/{secrets.token_hex(4)}"

    def acquire(self) -> Fence | None:
        """Take or renew the lease; None while another replica holds it."""
        with self._database.writing() as session:
            lease = session.get_one(Lease, DISPATCHER, with_for_update=True)
            now = self._database.now(session)
            if lease.holder != self.holder:
                if lease.expires_at > now and not _is_dead(lease.holder):
                    return None
                lease.holder = self.holder
                lease.fence += 1
            lease.expires_at = now + self._seconds
            return Fence(lease.holder, lease.fence)

    def release(self) -> None:
        """Let another replica take over at once."""
        with self._database.writing() as session:
            lease = session.get_one(Lease, DISPATCHER, with_for_update=True)
            if lease.holder == self.holder:
                lease.expires_at = 0.0


def _place() -> str:
    """Where process ids mean something: this host, this boot, this process namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    space = Path("/proc/self/ns/pid")
    boot_id = boot.read_text().strip() if boot.exists() else "boot"
    return f"{socket.gethostname()}.{boot_id}.{space.readlink() if space.is_symlink() else 'pid'}"


def _is_dead(holder: str) -> bool:
    """Whether the holder ran here and is surely gone, so that a restart need not wait for the lease to run out."""
    place, _, process = holder.rpartition("/")[0].rpartition("/")
    if place != _place():
        return False
    pid, _, started = process.partition(".")
    return start_ticks(int(pid)) != started
