"""Nothing grows for ever: what ended long ago is cleared away, and what counts stays."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, func, select

from app.db.models import Event, Lease
from app.engines.base import Engine, EngineDownError, Status
from app.engines.local import LocalEngine
from app.jobs.dispatch.housekeeping import FILES_KEPT_SECONDS, PROBES_KEPT_SECONDS, Housekeeping
from app.jobs.dispatch.lease import DISPATCHER, DispatcherLease, Fence, LeaseLostError
from app.jobs.dispatch.probe_store import ProbeStore
from app.jobs.evidence import export_lines
from app.jobs.intake import Sender
from app.jobs.probe_queries import UnknownProbeError, ask_to_cancel
from tests.service.desk import Desk, printed
from tests.service.fakes.fake_engine import FakeEngine

MINUTES = FILES_KEPT_SECONDS + 1
A_DAY = PROBES_KEPT_SECONDS + 1


@pytest.fixture(params=["sqlite", "postgresql"])
def desk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    url = request.getfixturevalue("postgres_database") if request.param == "postgresql" else None
    desk = Desk(tmp_path, FakeEngine(answer=printed(3)), url=url)
    yield desk
    desk.database.close()


def clean_up(desk: Desk, *, kept: int, later: float, engine: Engine | None = None) -> None:
    lease = DispatcherLease(desk.database)
    asyncio.run(housekeeping(desk, held(lease), kept, engine).clean_up(time.time() + later))
    lease.release()


def held(lease: DispatcherLease) -> Fence:
    """The lease, which the desk's own dispatcher gave up when it stopped."""
    fence = lease.acquire()
    assert fence is not None
    return fence


def housekeeping(desk: Desk, fence: Fence, kept: int, engine: Engine | None = None) -> Housekeeping:
    return Housekeeping(ProbeStore(desk.database, fence), [engine or desk.engine], kept)


def finished(desk: Desk, count: int) -> list[str]:
    probes = [desk.queue(mark=mark) for mark in range(1, count + 1)]
    desk.run_to_end(*probes)
    return probes


def there(desk: Desk, probe: str) -> bool:
    try:
        desk.get(probe)
    except UnknownProbeError:
        return False
    return True


def events(desk: Desk) -> dict[str, int]:
    query = select(Event.probe_id, func.count()).group_by(Event.probe_id)
    with desk.database.reading() as session:
        return {row[0]: row[1] for row in session.execute(query)}


def test_the_oldest_finished_probes_go_with_their_events_and_their_measurements_stay(desk: Desk) -> None:
    probes = finished(desk, 5)
    assert set(events(desk)) == set(probes)
    clean_up(desk, kept=2, later=A_DAY)
    assert [there(desk, probe) for probe in probes] == [False] * 3 + [True] * 2
    assert set(events(desk)) == set(probes[3:])
    assert len(list(export_lines(desk.database))) == 1  # the fake says the same each time
    clean_up(desk, kept=0, later=A_DAY)
    assert events(desk) == {}
    assert len(list(export_lines(desk.database))) == 1


def test_what_ended_within_a_day_stays_whatever_the_number_and_its_key_with_it(desk: Desk) -> None:
    sender = Sender("local", "key")
    probe = desk.queue(sender=sender)
    desk.run_to_end(probe)
    clean_up(desk, kept=0, later=MINUTES)
    assert desk.queue(sender=sender) == probe
    clean_up(desk, kept=0, later=A_DAY)
    assert desk.queue(sender=sender) != probe


def test_what_waits_or_runs_is_never_touched(desk: Desk) -> None:
    desk.engine.answer = None
    running, queued = desk.queue(mark=1), desk.queue(mark=2)
    desk.run(lambda: desk.get(running).state == "running")
    clean_up(desk, kept=0, later=A_DAY)
    assert [desk.get(probe).state for probe in (running, queued)] == ["running", "queued"]
    assert desk.engine.forgotten == []


def test_files_go_after_minutes(desk: Desk) -> None:
    (probe,) = finished(desk, 1)
    clean_up(desk, kept=100, later=0)
    assert desk.engine.forgotten == []
    clean_up(desk, kept=100, later=MINUTES)
    clean_up(desk, kept=100, later=MINUTES)
    assert desk.engine.forgotten == [f"{probe}-1"]


def test_more_than_a_page_of_them_goes_at_once(desk: Desk) -> None:
    probes = [desk.queue(limit=200) for _ in range(120)]
    for probe in probes:
        ask_to_cancel(desk.database, probe)
    clean_up(desk, kept=3, later=A_DAY)
    assert sum(there(desk, probe) for probe in probes) == 3


def test_every_attempt_of_a_repeated_probe_is_cleared_away(desk: Desk) -> None:
    desk.engine.answer = None
    probe = desk.queue()
    desk.engine.states |= {f"{probe}-1": Status("lost", "the node died"), f"{probe}-2": Status("succeeded")}
    desk.engine.output[f"{probe}-2"] = printed(1)
    desk.run_to_end(probe)
    clean_up(desk, kept=100, later=MINUTES)
    assert desk.engine.forgotten == [f"{probe}-1", f"{probe}-2"]


def test_an_engine_out_of_reach_is_asked_again_for_a_day_and_then_given_up(desk: Desk) -> None:
    (probe,) = finished(desk, 1)
    desk.engine.down = True
    clean_up(desk, kept=0, later=MINUTES)
    assert not desk.get(probe).forgotten
    clean_up(desk, kept=0, later=A_DAY)
    assert not there(desk, probe)


def test_one_that_cannot_be_forgotten_holds_up_none_of_the_others(desk: Desk) -> None:
    class Flaky(FakeEngine):
        async def forget(self, ref: str) -> None:
            if ref == f"{stuck}-1":
                raise EngineDownError(ref)
            await super().forget(ref)

    stuck, *others = finished(desk, 3)
    clean_up(desk, kept=100, later=MINUTES, engine=Flaky())
    assert [desk.get(probe).forgotten for probe in (stuck, *others)] == [False, True, True]


def test_only_the_holder_of_the_lease_clears_away(desk: Desk) -> None:
    probes = finished(desk, 2)
    stale = held(DispatcherLease(desk.database))
    with desk.database.writing() as session:
        session.get_one(Lease, DISPATCHER).expires_at = 0.0
    assert DispatcherLease(desk.database).acquire() is not None
    with pytest.raises(LeaseLostError):
        asyncio.run(housekeeping(desk, stale, 0).clean_up(time.time() + A_DAY))
    assert all(there(desk, probe) for probe in probes)


def test_folders_of_probes_that_nobody_knows_any_more_are_removed(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "probes"
    desk.engine.answer = None
    running = desk.queue()
    desk.run(lambda: desk.get(running).state == "running")
    for name in (f"{running}-1", f"{'0' * 16}-2", "somebody's own"):
        (folder / name).mkdir(parents=True)
    clean_up(desk, kept=100, later=0, engine=LocalEngine(folder))
    assert sorted(path.name for path in folder.iterdir()) == sorted([f"{running}-1", "somebody's own"])


def test_the_search_for_what_ended_walks_an_index(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    statements: list[str] = []
    store = ProbeStore(desk.database, held(DispatcherLease(desk.database)))

    @event.listens_for(desk.database.engine, "before_cursor_execute")
    def note(_connection: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.startswith("SELECT probe"):
            plan = cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()  # type: ignore[attr-defined]
            statements.extend(row[3] for row in plan)

    store.finished_before(1.0, ("", 0.0))
    store.prune(1.0, 5)
    assert all("probe_by_end" in step for step in statements), statements
    assert len(statements) == 2
