"""Several web replicas on one real PostgreSQL: one dispatches, another takes over, nothing happens twice."""

from pathlib import Path

import psycopg

from tests.service.fakes.fake_probe import HANG, HELD, QUICK, SLOW
from tests.service.harness import Web, is_running, journal, wait_until


def dispatches(web: Web) -> bool:
    return bool(web.client.get("/readyz").json()["dispatches"])


def test_two_replicas_share_a_queue_one_dispatches_and_hands_over_when_it_stops(
    tmp_path: Path, postgres_database: str
) -> None:
    with (
        Web(tmp_path, database_url=postgres_database) as first,
        Web(tmp_path, database_url=postgres_database) as second,
    ):
        assert [dispatches(first), dispatches(second)] == [True, False]
        key = {"Idempotency-Key": "the-same"}
        probes = [web.submit(QUICK, mark, key) for mark, web in ((1, first), (1, second))]
        assert probes[0] == probes[1]
        more = [web.submit(QUICK, mark) for mark, web in ((2, first), (3, second))]
        finals = [web.wait_for(probe) for probe in (*probes, *more) for web in (first, second)]
        assert {(final["state"], final["attempt"]) for final in finals} == {("succeeded", 1)}
        assert second.events(more[0]) == first.events(more[0])
        assert second.client.get("/api/v1/workers").json()["items"][0]["id"] == "local:cpu"
        cancel_across(second, first)
        first.process.terminate()
        first.process.wait(10)
        wait_until(lambda: dispatches(second), 5)
        assert second.wait_for(second.submit(QUICK, mark=5))["state"] == "succeeded"
    assert [len(journal(tmp_path, "start", mark)) for mark in (1, 2, 3)] == [1, 1, 1]


def cancel_across(asking: Web, dispatching: Web) -> None:
    probe = asking.submit(HANG, mark=4)
    asking.wait_for(probe, {"running"})
    wait_until(lambda: bool(journal(asking.folder, "start", 4)), 15)
    asking.client.delete(f"/api/v1/probes/{probe}")
    assert dispatching.wait_for(probe)["state"] == "cancelled"
    wait_until(lambda: not is_running(journal(asking.folder, "start", 4)[0]), 5)


def test_the_second_replica_finishes_what_a_killed_dispatcher_had(tmp_path: Path, postgres_database: str) -> None:
    with (
        Web(tmp_path, database_url=postgres_database) as first,
        Web(tmp_path, database_url=postgres_database) as second,
    ):
        hold = tmp_path / "hold"  # the first probe cannot end before its dispatcher is dead, however slow the machine
        hold.touch()
        probes = [first.submit(HELD, mark=1), second.submit(QUICK, mark=2), second.submit(QUICK, mark=3)]
        first.wait_for(probes[0], {"running"})
        wait_until(lambda: bool(journal(tmp_path, "start", 1)), 30)
        (attempt,) = journal(tmp_path, "start", 1)
        first.kill()
        wait_until(lambda: not is_running(attempt), 30)
        hold.unlink()
        finals = [second.wait_for(probe) for probe in probes]
        assert dispatches(second)
        assert [final["state"] for final in finals] == ["succeeded"] * 3
        assert [final["attempt"] for final in finals] == [2, 1, 1]
        assert len(second.client.get("/api/v1/evidence").text.splitlines()) == 3
    assert [len(journal(tmp_path, "start", mark)) for mark in (1, 2, 3)] == [2, 1, 1]
    assert [len(journal(tmp_path, "end", mark)) for mark in (1, 2, 3)] == [1, 1, 1]


def test_a_database_that_drops_its_connections_delays_and_loses_nothing(
    tmp_path: Path, postgres: str, postgres_database: str
) -> None:
    with Web(tmp_path, database_url=postgres_database) as web, psycopg.connect(postgres, autocommit=True) as admin:
        probe = web.submit(SLOW)
        web.wait_for(probe, {"running"})
        for _ in range(5):
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        assert web.wait_for(probe)["state"] == "succeeded"
        assert web.get(probe)["attempt"] == 1
