"""Bring the database to the schema this version needs, once, however many replicas start together.

`python -m app.db.migrate` does it for the database whose address it reads.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from app.db.database import Database, StorageUnavailableError

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS = Path(__file__).parent / "migrations"
# Any number, the same in every replica: pg_advisory_xact_lock lets one migrate while the others wait.
_MIGRATION_LOCK = 0x46495450


def migrate(database: Database) -> None:
    """Upgrade to the newest revision; a database already there is left alone.

    Raises:
        StorageUnavailableError: out of reach, or written by a newer version than this one.
    """
    if is_current(database):
        return
    # Here: a tenth of a second and 12 MiB to import, and needed once.
    from alembic import command  # noqa: PLC0415
    from alembic.util.exc import CommandError  # noqa: PLC0415

    try:
        with _only_one(database) as connection:
            command.upgrade(config(connection), "head")
    except CommandError as error:
        title = f"The database is of another version of Fitproof ({error}); upgrade this one or restore a backup"
        raise StorageUnavailableError(title) from error
    except DBAPIError as error:
        raise _cannot_open(error) from error


def migrate_elsewhere(database: Database) -> None:
    """`migrate` in a process of its own, which takes what Alembic holds in memory with it.

    Raises:
        StorageUnavailableError: as `migrate` does.
    """
    if is_current(database):
        return
    command = [sys.executable, "-m", "app.db.migrate"]
    address = database.url.render_as_string(hide_password=False)
    done = subprocess.run(command, input=address, text=True, capture_output=True, check=False)  # noqa: S603 (our own)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise StorageUnavailableError(reason or "The database could not be brought up to date")


def is_current(database: Database) -> bool:
    """Whether the schema is the newest, found out without Alembic.

    Raises:
        StorageUnavailableError: out of reach.
    """
    try:
        with database.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return False
            found = connection.scalars(text("SELECT version_num FROM alembic_version")).all()
    except DBAPIError as error:
        raise _cannot_open(error) from error
    return found == [_newest_revision()]


def _newest_revision() -> str:
    """Files of revisions begin with their number."""
    return max(path.name for path in (_MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]


def _cannot_open(error: DBAPIError) -> StorageUnavailableError:
    reason = str(error.orig).strip().splitlines()[0]
    return StorageUnavailableError(f"The database cannot be opened: {reason}")


def config(connection: Connection | None = None) -> "Config":
    """Alembic's configuration, in code because the migrations travel inside the package."""
    from alembic.config import Config  # noqa: PLC0415 (as in `migrate`)

    settings = Config()
    settings.set_main_option("script_location", str(_MIGRATIONS))
    settings.attributes["connection"] = connection
    return settings


@contextmanager
def _only_one(database: Database) -> Iterator[Connection]:
    # SQLite's write lock, taken by BEGIN IMMEDIATE, does the same for replicas on one file.
    with database.engine.begin() as connection:
        if not database.is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        yield connection


def _main() -> None:
    database = Database(make_url(sys.stdin.read()))
    try:
        migrate(database)
    except StorageUnavailableError as error:
        sys.exit(error.title)
    finally:
        database.close()


if __name__ == "__main__":
    _main()
