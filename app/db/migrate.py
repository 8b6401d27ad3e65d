"""Bring the database to the schema this version needs, once, however many replicas start together."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.db.database import Database, StorageUnavailableError

if TYPE_CHECKING:
    from alembic.config import Config

# Any number, the same in every replica: pg_advisory_xact_lock lets one migrate while the others wait.
_MIGRATION_LOCK = 0x46495450


def migrate(database: Database) -> None:
    """Upgrade to the newest revision; a database already there is left alone.

    Raises:
        StorageUnavailableError: out of reach, or written by a newer version than this one.
    """
    # Here: a tenth of a second to import, and needed once.
    from alembic import command  # noqa: PLC0415
    from alembic.util.exc import CommandError  # noqa: PLC0415

    try:
        with _only_one(database) as connection:
            command.upgrade(config(connection), "head")
    except CommandError as error:
        title = f"The database is of another version of Fitproof ({error}); upgrade this one or restore a backup"
        raise StorageUnavailableError(title) from error
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise StorageUnavailableError(f"The database cannot be opened: {reason}") from error


def config(connection: Connection | None = None) -> "Config":
    """Alembic's configuration, in code because the migrations travel inside the package."""
    from alembic.config import Config  # noqa: PLC0415 (as in `migrate`)

    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    settings.attributes["connection"] = connection
    return settings


@contextmanager
def _only_one(database: Database) -> Iterator[Connection]:
    # SQLite's write lock, taken by BEGIN IMMEDIATE, does the same for replicas on one file.
    with database.engine.begin() as connection:
        if not database.is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        yield connection
