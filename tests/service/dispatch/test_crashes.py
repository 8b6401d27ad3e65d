"""What is killed without warning is finished all the same, and nothing is recorded twice."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.conftest import new_database
from tests.service.fakes.fake_probe import CRASH, HANG, KILLED, OUT_OF_MEMORY, QUICK, SILENT, SLOW
from tests.service.harness import Web, end, is_running, journal, wait_until


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> dict[str, str]:
    """The setting of each database in turn."""
    return {} if request.param == "sqlite" else {"database_url": request.getfixturevalue("postgres_database")}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def web(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """One server for the tests that leave it alive; their marks tell their probes apart."""
    settings = {}
    if request.param == "postgresql":
        settings["database_url"] = new_database(request.getfixturevalue("postgres"))
    with Web(tmp_path_factory.mktemp("web"), **settings) as server:
        yield server


def test_a_probe_runs_to_its_measurement_with_live_progress(web: Web) -> None:
    probe = web.submit()
    events = web.events(probe)
    final = web.get(probe)
    assert (final["state"], final["attempt"], final["measurement"]["outcome"]) == ("succeeded", 1, "ok")
    assert [event["data"]["state"] for event in events if event["event"] == "state"][-1] == "succeeded"
    assert {event["data"]["stage"] for event in events if event["event"] == "progress"} == {"load", "backward"}
    assert [int(event["id"]) for event in events] == list(range(1, len(events) + 1))
    assert web.events(probe, after=2) == events[2:]


def test_out_of_memory_is_an_answer_and_broken_machinery_is_a_failure(web: Web) -> None:
    dead, crashed, silent, killed = (web.submit(kind) for kind in (OUT_OF_MEMORY, CRASH, SILENT, KILLED))
    answer = web.wait_for(dead)
    assert (answer["state"], answer["measurement"]["failed_phase"]) == ("succeeded", "backward")
    failure = web.wait_for(crashed)
    assert (failure["state"], failure["attempt"]) == ("failed", 1)
    assert failure["error"] == ("the probe ended with exit code 1: The probe failed: RuntimeError: the machinery broke")
    assert web.wait_for(silent)["error"].startswith("the probe ended without a measurement")
    assert web.wait_for(killed)["error"] == "the probe was killed by SIGKILL"


def test_a_killed_server_finishes_one_running_and_two_queued_probes_after_its_restart(
    tmp_path: Path, database: dict[str, str]
) -> None:
    with Web(tmp_path, **database) as first:
        probes = [first.submit(SLOW, mark=1), first.submit(QUICK, mark=2), first.submit(QUICK, mark=3)]
        first.wait_for(probes[0], {"running"})
        wait_until(lambda: bool(journal(tmp_path, "start", 1)), 10)
        (orphan,) = journal(tmp_path, "start", 1)
        first.kill()
    wait_until(lambda: not is_running(orphan), 3)
    with Web(tmp_path, **database) as second:
        ends = [second.wait_for(probe) for probe in probes]
        assert [end["state"] for end in ends] == ["succeeded"] * 3
        assert [end["attempt"] for end in ends] == [2, 1, 1]
        finals = [e for probe in probes for e in second.events(probe) if e["data"].get("state") == "succeeded"]
        assert len(finals) == 3
        assert len(second.client.get("/api/v1/evidence").text.splitlines()) == 3
    assert [len(journal(tmp_path, "start", mark)) for mark in (1, 2, 3)] == [2, 1, 1]
    assert [len(journal(tmp_path, "end", mark)) for mark in (1, 2, 3)] == [1, 1, 1]


def test_a_probe_claimed_but_never_submitted_is_started_once_after_the_restart(
    tmp_path: Path, database: dict[str, str]
) -> None:
    with Web(tmp_path, dies_at_submit=True, **database) as first:
        probe = first.submit(QUICK)
        first.process.wait(15)
        assert journal(tmp_path, "start", 1) == []
    with Web(tmp_path, **database) as second:
        final = second.wait_for(probe)
        assert (final["state"], final["attempt"]) == ("succeeded", 1)
        states = [e["data"]["state"] for e in second.events(probe) if e["event"] == "state"]
        # A quick probe may end before anybody sees it run.
        assert [state for state in states if state != "running"] == ["queued", "claimed", "succeeded"]
    assert len(journal(tmp_path, "start", 1)) == 1


def test_a_killed_probe_process_is_reported_and_the_next_one_runs(web: Web) -> None:
    victim, following = web.submit(HANG, mark=7), web.submit(QUICK)
    wait_until(lambda: bool(journal(web.folder, "start", 7)), 10)
    end(journal(web.folder, "start", 7)[0])
    assert web.wait_for(victim)["error"] == "the probe was killed by SIGKILL"
    assert web.wait_for(following)["state"] == "succeeded"


def test_queued_and_running_probes_are_cancelled_for_good(web: Web) -> None:
    running, queued = web.submit(HANG, mark=21), web.submit(QUICK, mark=22)
    web.wait_for(running, {"running"})
    wait_until(lambda: bool(journal(web.folder, "start", 21)), 15)
    assert web.client.delete(f"/api/v1/probes/{queued}").json()["state"] == "cancelled"
    assert web.client.delete(f"/api/v1/probes/{running}").status_code == 202
    assert web.wait_for(running)["state"] == "cancelled"
    assert web.client.delete(f"/api/v1/probes/{running}").json()["state"] == "cancelled"
    wait_until(lambda: not is_running(journal(web.folder, "start", 21)[0]), 5)
    assert journal(web.folder, "start", 22) == []


def test_a_probe_that_hangs_past_its_deadline_is_ended(tmp_path: Path, database: dict[str, str]) -> None:
    with Web(tmp_path, probe_deadline_seconds=1, **database) as web:
        hanging = web.submit(HANG)
        failure = web.wait_for(hanging)
        assert failure["state"] == "failed"
        assert "the limit for this probe" in failure["error"]


def test_a_locked_database_delays_and_loses_nothing(tmp_path: Path) -> None:
    with Web(tmp_path) as web:
        probe = web.submit(SLOW)
        web.wait_for(probe, {"running"})
        lock = sqlite3.connect(tmp_path / "fitproof.sqlite3", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        answer = web.client.post("/api/v1/probes", json={"model": "Qwen/Qwen2.5-0.5B", "gpu": "rtx-4090"})
        assert time.monotonic() - started < 10
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
        assert "locked" in answer.json()["title"]
        lock.execute("ROLLBACK")
        lock.close()
        assert web.wait_for(probe)["state"] == "succeeded"
        assert web.wait_for(web.submit(QUICK))["state"] == "succeeded"
        assert web.get(probe)["attempt"] == 1
