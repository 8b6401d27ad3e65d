"""`fitproof serve` itself: it starts or says why not, and stops in time whoever is watching."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.cli.errors import EXIT_BROKEN
from app.db.database import StorageUnavailableError
from app.jobs.service import prepare_database
from app.settings import Settings
from tests.service.harness import ROOT, document, free_port, wait_until

PROGRAM = "from app.cli import main; main()"


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    port = free_port()
    environment = {**os.environ, "FITPROOF_DATA_DIR": str(folder), "HF_HUB_OFFLINE": "1"}
    environment |= {"FITPROOF_LOCAL_ACCESS": "yes"} | settings
    command = [sys.executable, "-c", PROGRAM, "serve", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log, stdout=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()


def answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False


def test_an_open_event_stream_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    # Without a slot a probe is queued for ever, and its stream stays open.
    with serving(tmp_path, FITPROOF_CPU_SLOTS="0") as (process, client):
        wait_until(lambda: answers(client, "/readyz"), 30, (tmp_path / "log").read_text)
        wait_until(lambda: bool(client.get("/api/v1/workers").json()["items"]), 10)
        probe = client.post("/api/v1/probes", json=document()).json()["id"]
        with client.stream("GET", f"/api/v1/probes/{probe}/events") as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("retry:")
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(15)
            assert time.monotonic() - started < 12
        assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_database_that_cannot_be_used_is_one_sentence_on_the_terminal(tmp_path: Path) -> None:
    with serving(tmp_path, FITPROOF_DATABASE_URL="mysql://u:hidden@h/d") as (process, _client):
        assert process.wait(40) == EXIT_BROKEN
    said = (tmp_path / "log").read_text()
    assert "use postgresql:// or sqlite:///" in said
    assert "Traceback" not in said
    assert "hidden" not in said


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data_dir": Path("/proc/nowhere")}, "set FITPROOF_DATA_DIR"),
        ({"database_url": "postgresql://u:hidden@127.0.0.1:9/d"}, "cannot be opened"),
    ],
)
def test_each_reason_not_to_start_is_named(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(StorageUnavailableError, match=words) as caught:
        prepare_database(Settings(**{"data_dir": tmp_path, **settings}))
    assert "hidden" not in caught.value.title


def test_the_accuracy_page_is_worked_out_before_anybody_asks(tmp_path: Path) -> None:
    with serving(tmp_path, FITPROOF_LOG_FORMAT="json") as (_process, _client):
        wait_until(lambda: "GET /accuracy" in (tmp_path / "log").read_text(), 60, (tmp_path / "log").read_text)
        logged = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if "GET /accuracy" in line]
        assert [line["status"] for line in logged] == [200]
