"""The record of truth: migrated once, refused clearly, never half written."""

import os
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event, select, text

from app.db.database import Database, StorageUnavailableError, database_url
from app.db.migrate import config, migrate
from app.db.models import Base, Lease, Probe, Token
from app.jobs.intake import QUEUE, Sender
from tests.service.desk import Desk


def sqlite_in(folder: Path) -> Database:
    return Database(database_url(None, folder))


def differences(database: Database) -> list[object]:
    with database.engine.connect() as connection:
        return compare_metadata(MigrationContext.configure(connection), Base.metadata)


def test_migrations_lead_to_the_models_on_sqlite(tmp_path: Path) -> None:
    database = sqlite_in(tmp_path)
    migrate(database)
    migrate(database)
    assert differences(database) == []


def test_migrations_lead_to_the_models_on_postgresql(postgres_database: str, tmp_path: Path) -> None:
    database = Database(database_url(postgres_database, tmp_path))
    migrate(database)
    assert differences(database) == []
    database.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_replicas_that_start_together_migrate_once(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    setting = request.getfixturevalue("postgres_database") if kind == "postgresql" else None
    databases = [Database(database_url(setting, tmp_path)) for _ in range(4)]
    errors: list[Exception] = []

    def run(database: Database) -> None:
        try:
            migrate(database)
        except StorageUnavailableError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with databases[0].reading() as session:
        assert len(session.execute(select(Lease)).all()) == 2
        assert session.get(Lease, QUEUE) is not None
    for database in databases:
        database.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_upgrade_from_the_first_version_keeps_every_record(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_database") if kind == "postgresql" else None
    database = Database(database_url(url, tmp_path))
    before = Desk(tmp_path, url=url)
    probe = before.queue(sender=Sender("local", "key"))
    with database.engine.begin() as connection:
        command.downgrade(config(connection), "0001")
    after = Desk(tmp_path, url=url)
    assert differences(database) == []
    assert after.queue(sender=Sender("local", "key")) == probe
    assert after.states(probe) == ["queued"]
    for each in (database, before.database, after.database):
        each.close()


def test_sqlite_keeps_a_write_ahead_log_and_syncs_every_commit(tmp_path: Path) -> None:
    database = sqlite_in(tmp_path)
    with database.reading() as session:
        pragmas = [session.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    database = sqlite_in(tmp_path)
    migrate(database)
    with database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageUnavailableError, match="another version"):
        migrate(database)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "fitproof.sqlite3").write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageUnavailableError, match="cannot be opened"):
        migrate(sqlite_in(tmp_path))


@pytest.mark.parametrize("setting", ["mysql://u:secret@h/d", "not an address", "oracle://x"])
def test_an_address_that_cannot_be_used_is_refused_without_its_password(setting: str, tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailableError) as caught:
        database_url(setting, tmp_path)
    assert "FITPROOF_DATABASE_URL" in caught.value.title
    assert "secret" not in caught.value.title


def test_an_unreachable_postgresql_is_a_clear_error(tmp_path: Path) -> None:
    database = Database(database_url(f"postgresql://u:secret@/d?host={tmp_path}", tmp_path))
    with pytest.raises(StorageUnavailableError) as caught:
        migrate(database)
    assert "secret" not in caught.value.title


def test_a_full_disk_refuses_new_probes_and_keeps_the_old_ones(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    kept = desk.queue()
    pages = [0]

    @event.listens_for(desk.database.engine, "begin")
    def limit(connection: object) -> None:
        # SQLite then answers as on a full disk: SQLITE_FULL (https://sqlite.org/pragma.html#pragma_max_page_count).
        if pages[0]:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages[0]}")  # type: ignore[attr-defined]

    with desk.database.reading() as session:
        pages[0] = session.execute(text("PRAGMA page_count")).scalar_one()
    with pytest.raises(StorageUnavailableError, match="is full"):
        fill(desk)
    pages[0] = 1 << 30
    assert desk.get(kept).state == "queued"
    desk.engine.answer = b""
    assert desk.get(desk.queue()).state == "queued"


def test_a_disk_that_fails_under_a_probe_loses_neither_row_nor_attempt(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    probe = desk.queue()
    failing = [True]

    @event.listens_for(desk.database.engine, "before_cursor_execute")
    def fail(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if failing[0] and statement.startswith("UPDATE probe"):
            raise OSError(28, os.strerror(28))

    desk.run(lambda: desk.dispatcher.leads)
    assert (desk.get(probe).state, desk.engine.submits) == ("queued", [])
    failing[0] = False
    desk.run(lambda: desk.get(probe).state == "running")
    assert desk.engine.submits == [f"{probe}-1"]


def test_a_transaction_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    probe = desk.queue(sender=Sender("local", "key"))
    with pytest.raises(ZeroDivisionError):
        change_and_break(desk.database, probe)
    assert desk.get(probe).state == "queued"


def fill(desk: Desk) -> None:
    for _ in range(500):
        desk.queue(model={"model_type": "llama", "filler": "x" * 5000})


def change_and_break(database: Database, probe: str) -> None:
    with database.writing() as session:
        session.get_one(Probe, probe).state = "failed"
        session.flush()
        1 / 0  # noqa: B018 (any bug between two statements)


def test_many_writers_of_one_process_wait_in_line_and_none_in_vain(tmp_path: Path) -> None:
    database = Database(database_url(None, tmp_path), patience_seconds=10)
    migrate(database)
    order: list[int] = []

    def write(number: int) -> None:
        with database.writing() as session:
            session.add(Token(id=f"{number}", name="x", sha256="x", created_at=0.0))
            time.sleep(0.02)
            order.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
        time.sleep(0.002)
    for thread in threads:
        thread.join()
    assert sorted(order) == list(range(60))
    # A busy machine may start one thread a little after the next; nobody is overtaken by all who came later.
    assert all(abs(place - number) <= 5 for place, number in enumerate(order))


def test_a_writer_that_waited_in_vain_says_so_and_holds_up_none(tmp_path: Path) -> None:
    patient, brief = (Database(database_url(None, tmp_path), patience_seconds=seconds) for seconds in (5, 0.2))
    migrate(patient)
    for held, waiting in ((patient, brief), (brief, brief)):
        with held.writing() as session:
            session.add(Token(id=secrets.token_hex(4), name="x", sha256="x", created_at=0.0))
            session.flush()
            started = time.monotonic()
            with pytest.raises(StorageUnavailableError, match="locked"), ThreadPoolExecutor(1) as aside:
                aside.submit(write_once, waiting).result()
            assert time.monotonic() - started < 2
    write_once(brief)


def write_once(database: Database) -> None:
    with database.writing() as session:
        session.add(Token(id=secrets.token_hex(4), name="x", sha256="x", created_at=0.0))
