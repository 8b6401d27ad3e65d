"""Sessions on SQLite or PostgreSQL: one kind that reads, one that writes, and errors a caller can act on."""

import logging
import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, InvalidRequestError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from app.db.turn import Turn
from planner.errors import FitproofError

_LOG = logging.getLogger(__name__)
_WRITES = "fitproof_writes"
_PATIENCE = "fitproof_patience_seconds"
_LOCKED = "The database is locked by another program; nothing was recorded. Try again."
_DAMAGED = "The database file is damaged. The server's log has the reason; restore a backup."
FILE_NAME = "fitproof.sqlite3"
# Reading all of a large file takes a second.
_CHECK_SECONDS = 60.0
# 2440587.5 is the Julian day of the epoch, 1970-01-01 (https://sqlite.org/lang_datefunc.html).
_SQLITE_CLOCK = text("SELECT (julianday('now') - 2440587.5) * 86400.0")
_POSTGRESQL_CLOCK = text("SELECT extract(epoch from clock_timestamp())")


class StorageUnavailableError(FitproofError):
    """The database is locked, full or out of reach. Nothing of the failed transaction was kept."""

    status = 503
    code = "storage_unavailable"


class Database:
    """One engine. `reading()` and `writing()` hand out sessions; a writing session commits when its block ends well."""

    def __init__(self, url: URL, patience_seconds: float = 5.0) -> None:
        """Open `url`; a locked SQLite file is waited for `patience_seconds`."""
        self.url = url
        self.patience_seconds = patience_seconds
        self._turn = Turn()
        self._checked_at = self._told_at = -math.inf
        self._told = ""
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.engine = _sqlite_engine(url, patience_seconds) if self.is_sqlite else _postgresql_engine(url)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session on one consistent snapshot; nothing is written."""
        with self._session(self.patience_seconds, writes=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that holds SQLite's write lock from its first statement, so that it never fails half way for it."""
        with self._in_line() as patience_seconds, self._session(patience_seconds, writes=True) as session:
            yield session
            session.commit()

    def now(self, session: Session) -> float:
        """Seconds since the epoch on the database's clock, the only clock that all replicas share."""
        return float(session.execute(_SQLITE_CLOCK if self.is_sqlite else _POSTGRESQL_CLOCK).scalar_one())

    def close(self) -> None:
        """Give every connection back."""
        self.engine.dispose()

    @contextmanager
    def _in_line(self) -> Iterator[float]:
        """Wait for this process's other writers; what is left of the patience is for other programs."""
        ends_at = time.monotonic() + self.patience_seconds
        if self.is_sqlite and not self._turn.take(self.patience_seconds):
            raise StorageUnavailableError(_LOCKED)
        try:
            yield max(0.0, ends_at - time.monotonic())
        finally:
            if self.is_sqlite:
                self._turn.give()

    @contextmanager
    def _session(self, patience_seconds: float, *, writes: bool) -> Iterator[Session]:
        try:
            options = {_WRITES: writes, _PATIENCE: patience_seconds}
            with Session(self.engine.execution_options(**options), expire_on_commit=False) as session:
                yield session
        except (IntegrityError, DataError):
            # The data of one request is at fault; the database itself is well.
            raise
        except (DBAPIError, PoolTimeoutError, InvalidRequestError) as error:
            self._tell(error)
            raise StorageUnavailableError(_sentence(error)) from error

    def check(self) -> None:
        """See that the tables can be read and, once a minute, that a SQLite file is whole.

        Raises:
            StorageUnavailableError: they cannot, or it is not.
        """
        with self.reading() as session:
            session.execute(text("SELECT 1 FROM probe, lease LIMIT 1"))
        if self.is_sqlite and time.monotonic() - self._checked_at > _CHECK_SECONDS:
            damage = file_damage(self.url.database, self.patience_seconds)
            if damage is not None:
                _LOG.error("the database file %s is damaged: %s; restore a backup", self.url.database, damage)
                raise StorageUnavailableError(_DAMAGED)
            self._checked_at = time.monotonic()

    def _tell(self, error: SQLAlchemyError) -> None:
        """Log why the database failed, the same reason once a minute."""
        reason, now = str(getattr(error, "orig", None) or error).strip(), time.monotonic()
        if reason != self._told or now - self._told_at > _CHECK_SECONDS:
            self._told, self._told_at = reason, now
            _LOG.error("the database at %s failed: %s", self.url.render_as_string(hide_password=True), reason)


def file_damage(name: str | None, patience_seconds: float) -> str | None:
    """What SQLite finds wrong with its file, read anew from the disk; None where it is whole or in memory."""
    if not name or name == ":memory:":
        return None
    try:
        with closing(sqlite3.connect(f"{Path(name).absolute().as_uri()}?mode=ro", patience_seconds, uri=True)) as file:
            found = str(file.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:  # locked or out of reach, which is no damage
        return None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" else found


def database_url(setting: str | None, data_dir: Path) -> URL:
    """The address to open: PostgreSQL where `FITPROOF_DATABASE_URL` names it, else a file in the data folder.

    Raises:
        StorageUnavailableError: the setting is no address of a database we can open.
    """
    if setting is None:
        return URL.create("sqlite", database=str(data_dir / FILE_NAME))
    try:
        url = make_url(setting)
    except ArgumentError:
        title = "FITPROOF_DATABASE_URL is no database address; write postgresql://user:password@host/name"
        raise StorageUnavailableError(title) from None
    if url.drivername in {"postgres", "postgresql", "postgresql+psycopg"}:
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite":
        return url
    title = f"FITPROOF_DATABASE_URL names {url.drivername!r}; use postgresql:// or sqlite:///"
    raise StorageUnavailableError(title)


# `hide_parameters`: what a failed statement was given, tokens' hashes among it, stays out of the logs.
def _sqlite_engine(url: URL, patience_seconds: float) -> Engine:
    engine = create_engine(
        url, connect_args={"timeout": patience_seconds}, pool_size=16, max_overflow=64, hide_parameters=True
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # The driver must not open transactions of its own: `_begin` below does
        # (https://docs.sqlalchemy.org/en/21/dialects/sqlite.html, "Serializable isolation / Savepoints").
        connection.isolation_level = None
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        writes = options.get(_WRITES, True)
        patience = round(1000 * options.get(_PATIENCE, patience_seconds))
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {patience}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql_engine(url: URL) -> Engine:
    try:
        patience = {"connect_timeout": 5}
        return create_engine(
            url, pool_pre_ping=True, pool_size=16, max_overflow=64, connect_args=patience, hide_parameters=True
        )
    except ModuleNotFoundError as error:
        title = "PostgreSQL needs the psycopg driver; install fitproof[postgres]"
        raise StorageUnavailableError(title) from error


def _sentence(error: SQLAlchemyError) -> str:
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()[:1]
    said = cause[0] if cause else type(error).__name__
    if "locked" in said or "busy" in said:
        return _LOCKED
    if "full" in said or "No space left" in said:
        return "The disk that holds the database is full; nothing was recorded. Make room and try again."
    return "The database cannot be used just now; nothing was recorded. The server's log has the reason."
