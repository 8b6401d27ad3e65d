"""What a probe is not blamed for: its server's end, and a clock that jumps; nor does a jump move the lease."""

import time
from pathlib import Path

import pytest

from app.engines.base import Status
from app.jobs.dispatch.lease import DispatcherLease
from app.jobs.states import is_final
from tests.service.desk import Desk, printed
from tests.service.dispatch.test_dispatcher import ref


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_server_deaths_use_up_no_attempts(desk: Desk) -> None:
    probe = desk.queue()
    for attempt in range(1, 6):
        desk.engine.states[ref(probe, attempt)] = Status("lost", "the server stopped", with_server=True)
    desk.engine.output[ref(probe, 6)], desk.engine.states[ref(probe, 6)] = printed(1), Status("succeeded")
    desk.run(lambda: is_final(desk.get(probe).state), 30)
    final = desk.get(probe)
    assert (final.state, final.attempt, final.server_ends) == ("succeeded", 6, 5)


@pytest.mark.parametrize("hours", [-48, 48])
def test_a_clock_that_jumps_neither_ends_a_probe_nor_puts_one_off(
    desk: Desk, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = desk.queue()
    desk.run(lambda: desk.get(running).state == "running")
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + hours * 3600)
    looked = len(desk.engine.looked)
    desk.run(lambda: len(desk.engine.looked) > looked + 3)
    assert (desk.get(running).state, desk.engine.cancelled) == ("running", [])
    desk.engine.states[ref(running)] = Status("lost", "the node died")
    desk.run(lambda: desk.get(running).state == "queued")
    monkeypatch.setattr(time, "time", lambda: clock() - hours * 3600)
    desk.engine.output[ref(running, 2)], desk.engine.states[ref(running, 2)] = printed(1), Status("succeeded")
    desk.run_to_end(running)
    assert desk.get(running).state == "succeeded"


@pytest.mark.parametrize("hours", [-48, 48])
def test_a_replica_whose_clock_is_wrong_neither_takes_nor_loses_the_lease(
    desk: Desk, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = DispatcherLease(desk.database, 60)
    fence = holder.acquire()
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + hours * 3600)
    assert DispatcherLease(desk.database, 60).acquire() is None
    assert holder.acquire() == fence
