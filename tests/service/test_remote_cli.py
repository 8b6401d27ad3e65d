"""`fitproof probe --server` and `fitproof token`, as a terminal and a CI job see them."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli import app
from app.jobs.streaming import Streams
from app.main import create_app
from app.settings import Settings
from tests.app.serving import served
from tests.service.desk import printed
from tests.service.fakes.fake_engine import FakeEngine
from tests.service.fakes.fake_probe import SLOW
from tests.service.forking import forked_template
from tests.service.harness import ROOT, Web, wait_until

RUN = ["probe", "Qwen/Qwen2.5-0.5B", "4090", "--length", "64"]


def fitproof(*arguments: str, **environment: str) -> Result:
    """Run a command as the terminal does, in this process."""
    return CliRunner().invoke(app, list(arguments), env={"HF_HUB_OFFLINE": "1", "FITPROOF_TOKEN": None, **environment})


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(answer=printed(3))


@pytest.fixture
def server(tmp_path: Path, engine: FakeEngine) -> Iterator[str]:
    settings = Settings(data_dir=tmp_path, host="0.0.0.0", hub_offline=True)
    with served(create_app(settings, [engine], forked_template)) as client:
        wait_until(lambda: bool(client.get("/api/v1/workers").json()["items"]), 10)
        yield str(client.base_url)


@pytest.fixture
def token(tmp_path: Path, server: str) -> str:
    del server
    made = fitproof("token", "ci", FITPROOF_DATA_DIR=str(tmp_path))
    assert made.exit_code == 0, made.stderr
    return made.stdout.strip()


def test_a_measured_fit_exits_0_with_the_measurement_beside_the_prediction(server: str, token: str) -> None:
    run = fitproof(*RUN, "--server", server, FITPROOF_TOKEN=token)
    assert run.exit_code == 0, run.stderr
    assert "Measured on dry-run: 5.00 GiB" in run.stdout
    assert re.search(r"backward +[\d,]+ +5,368,709,120", run.stdout)


def test_where_too_many_watch_already_the_answer_is_waited_for_all_the_same(tmp_path: Path) -> None:
    server = create_app(
        Settings(data_dir=tmp_path, hub_offline=True, local_access=True),
        [FakeEngine(answer=printed(1))],
        forked_template,
    )
    with served(server) as client:
        server.state.service.streams = Streams(server.state.service.database, most=0)
        wait_until(lambda: bool(client.get("/api/v1/workers").json()["items"]), 10)
        run = fitproof(*RUN, "--server", str(client.base_url), "--on", "dry-run")
        assert run.exit_code == 0, run.stderr
        assert "5.00 GiB" in run.stdout


def test_out_of_memory_exits_1(server: str, token: str, engine: FakeEngine) -> None:
    engine.answer = printed(1, outcome="out_of_memory", failed_phase="backward", short_bytes=1 << 30)
    run = fitproof(*RUN, "--server", server, "--token", token, "--on", "dry-run", "--json")
    assert run.exit_code == 1, run.stderr
    assert json.loads(run.stdout)["failed_phase"] == "backward"


def test_broken_machinery_is_no_verdict(server: str, token: str, engine: FakeEngine) -> None:
    engine.answer = b"nothing of use\n"
    run = fitproof(*RUN, "--server", server, "--token", token)
    assert run.exit_code not in {0, 1, 3}
    assert "ended without a measurement" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--server", "SERVER"], "Probing needs a token here."),
        (["--server", "SERVER", "--token", "wrong"], "This token opens nothing here."),
        (["--server", "http://127.0.0.1:9"], "The server does not answer"),
        (["--server", "gpu.example"], "must start with http"),
        (["--server", "SERVER", "--routing", "skewed"], "is the server's to decide"),
        (["--server", "SERVER", "--memory-limit", "much"], "is not a size"),
    ],
)
def test_what_cannot_be_sent_is_said_in_words_with_status_2(server: str, arguments: list[str], words: str) -> None:
    run = fitproof(*RUN, *(server if word == "SERVER" else word for word in arguments))
    assert run.exit_code == 2
    assert words in run.stderr
    assert "Traceback" not in run.stderr


def test_tokens_are_listed_without_secrets_and_revoked(tmp_path: Path, server: str, token: str) -> None:
    place = {"FITPROOF_DATA_DIR": str(tmp_path)}
    token_id = token.split("_")[1]
    listed = fitproof("token", "--list", **place).stdout
    assert token_id in listed
    assert token.split("_", 2)[2] not in listed
    assert fitproof("token", "--revoke", token_id, **place).exit_code == 0
    assert "opens nothing" in fitproof(*RUN, "--server", server, "--token", token).stderr
    assert fitproof("token", "--revoke", "nobody", **place).exit_code == 2


def test_waiting_goes_on_through_a_restart_of_the_server(tmp_path: Path) -> None:
    with Web(tmp_path) as first:
        program = "from app.cli import main; main()"
        arguments = [*RUN[:3], "--length", str(SLOW), "--server", f"http://127.0.0.1:{first.port}", "--on", "dry-run"]
        waiting = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        wait_until(lambda: any(p["state"] == "running" for p in first.client.get("/api/v1/probes").json()["items"]), 15)
        first.kill()
    with Web(tmp_path, port=first.port):
        out, errors = waiting.communicate(timeout=30)
    assert waiting.returncode == 0, errors.decode()
    assert b"5.00 GiB" in out
