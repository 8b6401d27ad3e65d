"""A database that is damaged or gone: unready, with the reason in the log, and nothing but planning goes on."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from app.db.database import Database, StorageUnavailableError
from app.jobs.service import open_database, prepare_database
from app.main import create_app
from app.settings import Settings
from tests.app.serving import served
from tests.service.fakes.fake_engine import FakeEngine
from tests.service.forking import forked_template


@contextlib.contextmanager
def serving(settings: Settings) -> Iterator[tuple[httpx.Client, Database]]:
    app = create_app(settings, [FakeEngine()], forked_template)
    with served(app) as client:
        client.timeout = httpx.Timeout(60)
        yield client, app.state.service.database


def damage(folder: Path) -> None:
    """Overwrite all but the first page, as a failing disk does."""
    for file in folder.glob("fitproof.sqlite3*"):
        size = file.stat().st_size
        with file.open("r+b") as content:
            content.seek(4096)
            content.write(b"\xa5" * max(0, size - 4096))


def test_a_damaged_file_makes_the_server_unready_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)  # whatever level an earlier test of this process has left
    with serving(Settings(data_dir=tmp_path, hub_offline=True)) as (client, database):
        damage(tmp_path)
        database.close()
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
        assert any("fitproof.sqlite3" in line and "malformed" in line for line in caplog.messages), caplog.messages
        assert client.get("/healthz").status_code == 200


def test_a_server_does_not_start_on_a_damaged_file(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    prepare_database(settings)
    damage(tmp_path)
    with pytest.raises(StorageUnavailableError):
        prepare_database(settings)


def test_without_its_database_evidence_is_a_503_until_it_is_back(
    postgres: str, postgres_database: str, tmp_path: Path
) -> None:
    name = postgres_database.partition("?")[0].rpartition("/")[2]
    settings = Settings(data_dir=tmp_path, database_url=postgres_database, hub_offline=True, local_access=True)
    with serving(settings) as (client, _):
        assert client.get("/api/v1/evidence").status_code == 200
        with psycopg.connect(postgres, autocommit=True) as server:
            server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            for method, path in (("GET", "/api/v1/evidence"), ("POST", "/api/v1/evidence"), ("GET", "/readyz")):
                headers = {"content-type": "application/x-ndjson"}
                answer = client.request(method, path, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable"), (method, path)
            server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert client.get("/api/v1/evidence").status_code == 200


def test_an_id_that_no_database_holds_is_a_404_on_postgresql(postgres_database: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=postgres_database, hub_offline=True, local_access=True)
    with serving(settings) as (client, _):
        for path in ("/probes/%00", "/api/v1/probes/%00", "/api/v1/probes/%00/events"):
            assert client.get(path).status_code == 404, path


def test_what_earlier_versions_left_open_to_others_is_closed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "probes").mkdir(parents=True)
    (data / "fitproof.sqlite3").touch()
    for path, mode in ((data, 0o755), (data / "probes", 0o755), (data / "fitproof.sqlite3", 0o644)):
        path.chmod(mode)
    open_database(Settings(data_dir=data)).close()
    for path in (data, *data.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_folder_that_holds_other_things_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "somebody's").touch()
    tmp_path.chmod(0o755)
    prepare_database(Settings(data_dir=tmp_path))
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "fitproof.sqlite3").stat().st_mode & 0o077 == 0
