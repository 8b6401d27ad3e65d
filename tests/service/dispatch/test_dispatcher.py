"""How a probe moves, whatever its engine says."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.db.database import Database
from app.db.models import Lease
from app.engines.base import Status, Worker
from app.jobs.dispatch.dispatcher import Dispatcher
from app.jobs.dispatch.lease import DISPATCHER, DispatcherLease, LeaseLostError
from app.jobs.dispatch.probe_store import ProbeStore
from app.jobs.dispatch.progress import MOST_LINES_KEPT
from app.jobs.dispatch.roster import seen_workers
from app.jobs.evidence import export_lines
from app.jobs.probe_queries import ask_to_cancel
from tests.service.desk import Desk, printed, wait
from tests.service.fakes.fake_engine import CPU, GIB, H100, FakeEngine


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def ref(probe: str, attempt: int = 1) -> str:
    return f"{probe}-{attempt}"


def test_a_probe_is_claimed_run_and_answered(desk: Desk) -> None:
    probe = desk.queue()
    desk.engine.output[ref(probe)] = printed(3)
    desk.run(lambda: desk.get(probe).state == "running")
    desk.engine.states[ref(probe)] = Status("succeeded")
    desk.run_to_end(probe)
    assert desk.states(probe) == ["queued", "claimed", "running", "succeeded"]
    assert desk.stages(probe) == [0, 1, 2]
    assert len(list(export_lines(desk.database))) == 1


def test_a_log_read_in_pieces_gives_each_line_once(desk: Desk) -> None:
    probe = desk.queue()
    whole = printed(40)
    desk.run(lambda: desk.get(probe).state == "running")
    for end in range(0, len(whole), 97):
        desk.engine.output[ref(probe)] = whole[:end]
        kept = whole[:end].rfind(b"\n") + 1
        desk.run(lambda kept=kept: desk.get(probe).log_offset == kept)  # type: ignore[misc]
    desk.engine.output[ref(probe)], desk.engine.states[ref(probe)] = whole, Status("succeeded")
    desk.run_to_end(probe)
    assert desk.stages(probe) == list(range(40))


def test_a_lost_attempt_is_repeated_and_given_up_after_the_third(desk: Desk) -> None:
    probe = desk.queue()
    for attempt in (1, 2, 3):
        desk.engine.states[ref(probe, attempt)] = Status("lost", "the node died")
    desk.run_to_end(probe)
    final = desk.get(probe)
    assert (final.state, final.attempt) == ("failed", 3)
    assert final.error == "given up after 3 attempts: the node died"


def test_what_a_lost_attempt_printed_does_not_count_for_the_next(desk: Desk) -> None:
    probe = desk.queue()
    desk.engine.output[ref(probe)] = printed(2, measured=False)
    desk.run(lambda: desk.get(probe).log_offset > 0)
    desk.engine.states[ref(probe)] = Status("lost", "the node died")
    desk.engine.output[ref(probe, 2)] = printed(1, peak_allocated_bytes=7)
    desk.engine.states[ref(probe, 2)] = Status("succeeded")
    desk.run_to_end(probe)
    final = desk.get(probe)
    assert final.measurement is not None
    assert (final.attempt, final.measurement["peak_allocated_bytes"]) == (2, 7)


def test_a_measurement_in_hand_counts_though_its_node_died_after(desk: Desk) -> None:
    probe = desk.queue()
    desk.engine.output[ref(probe)] = printed(1)
    desk.engine.states[ref(probe)] = Status("lost", "the node died")
    desk.run_to_end(probe)
    assert (desk.get(probe).state, desk.get(probe).attempt) == ("succeeded", 1)


def test_a_success_whose_log_is_lost_runs_again(desk: Desk) -> None:
    probe = desk.queue()
    desk.engine.states[ref(probe)] = Status("succeeded")
    desk.engine.output[ref(probe, 2)] = printed(1)
    desk.engine.states[ref(probe, 2)] = Status("succeeded")
    desk.run_to_end(probe)
    assert (desk.get(probe).state, desk.get(probe).attempt) == ("succeeded", 2)


def test_an_engine_that_is_down_changes_nothing_and_is_shown(desk: Desk) -> None:
    probe = desk.queue()
    desk.run(lambda: desk.get(probe).state == "running")
    desk.engine.down = True
    desk.run(lambda: any(seen.problem for seen in seen_workers(desk.database)))
    assert (desk.get(probe).state, desk.get(probe).attempt) == ("running", 1)
    desk.engine.down = False
    desk.engine.output[ref(probe)], desk.engine.states[ref(probe)] = printed(1), Status("succeeded")
    desk.run_to_end(probe)
    assert desk.get(probe).attempt == 1
    # The roster is read beside the probes, so it may notice a moment after the probe has ended.
    desk.run(lambda: [seen.problem for seen in seen_workers(desk.database)] == [None])


def test_a_refused_probe_fails_with_the_engines_reason(desk: Desk) -> None:
    desk.engine.refuses = "the request is too long"
    probe = desk.queue()
    desk.run_to_end(probe)
    assert (desk.get(probe).state, desk.get(probe).error) == ("failed", "the request is too long")


def test_a_poisoned_probe_does_not_hold_up_the_others(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeEngine(workers=(Worker(**{**vars_of(CPU), "slots": 2}),)))
    poisoned, healthy = desk.queue(), desk.queue()
    desk.engine.broken.add(ref(poisoned))
    desk.engine.output[ref(healthy)], desk.engine.states[ref(healthy)] = printed(1), Status("succeeded")
    desk.run_to_end(healthy)
    assert desk.get(poisoned).faults >= 1
    assert desk.get(poisoned).not_before > desk.get(poisoned).created_at


def test_a_probe_pending_in_a_crowded_cluster_waits_and_can_be_cancelled(desk: Desk) -> None:
    probe = desk.queue()
    desk.engine.states[ref(probe)] = Status("pending", "waiting for the cluster")
    desk.run(lambda: desk.get(probe).seen)
    assert desk.get(probe).state == "claimed"
    ask_to_cancel(desk.database, probe)
    desk.run_to_end(probe)
    assert desk.get(probe).state == "cancelled"
    assert desk.engine.cancelled == [ref(probe)]


def test_an_order_cancelled_between_claim_and_start_never_starts(desk: Desk) -> None:
    probe = desk.queue()
    desk.engine.broken.add(ref(probe))
    desk.run(lambda: desk.get(probe).faults > 0)
    ask_to_cancel(desk.database, probe)
    desk.engine.broken.clear()
    desk.run_to_end(probe)
    assert desk.get(probe).state == "cancelled"
    assert desk.engine.submits == []


def test_a_flood_of_progress_is_kept_in_part_and_read_to_its_end(desk: Desk) -> None:
    probe = desk.queue()
    desk.engine.output[ref(probe)] = printed(MOST_LINES_KEPT + 300)
    desk.engine.states[ref(probe)] = Status("succeeded")
    desk.run_to_end(probe)
    assert desk.get(probe).state == "succeeded"
    assert desk.get(probe).lines_kept == MOST_LINES_KEPT + 300


def test_slots_are_never_overbooked_and_the_oldest_goes_first(desk: Desk) -> None:
    probes = [desk.queue(mark=mark) for mark in range(1, 4)]
    desk.run(lambda: desk.get(probes[0]).state == "running")
    assert [desk.get(probe).state for probe in probes] == ["running", "queued", "queued"]
    assert seen_workers(desk.database)[0].busy == 1


def test_a_large_card_plays_the_small_one_that_was_asked_for(tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeEngine(workers=(CPU, H100)))
    small = desk.queue(instrument="cuda")
    exact = desk.queue(instrument="cuda", card={"card": H100.card, "card_bytes": 1})
    desk.engine.output |= {ref(small): printed(1), ref(exact): printed(1)}
    desk.engine.states |= {ref(small): Status("succeeded"), ref(exact): Status("succeeded")}
    desk.run_to_end(small, exact)
    arguments = desk.engine.jobs[ref(small)].arguments
    assert arguments[:2] == ("--on", "cuda")
    assert arguments[arguments.index("--memory-limit") + 1] == str(24 * GIB)
    assert "--memory-limit" not in desk.engine.jobs[ref(exact)].arguments
    assert json.loads(desk.engine.jobs[ref(small)].document)["gpu"] == "rtx-4090"


def test_what_an_engine_had_that_is_gone_from_the_settings_runs_elsewhere(tmp_path: Path) -> None:
    before = Desk(tmp_path)
    probe = before.queue()
    before.run(lambda: before.get(probe).state == "running")
    processor = Worker(**{**vars_of(CPU), "id": "other:cpu", "engine": "other"})
    after = Desk(tmp_path, FakeEngine(name="other", workers=(processor,)))
    after.engine.answer = printed(1)
    after.run_to_end(probe)
    final = after.get(probe)
    assert (final.state, final.attempt, final.engine) == ("succeeded", 2, "other")
    assert [seen.worker.id for seen in seen_workers(after.database)] == ["other:cpu"]


def test_a_replica_that_lost_its_lease_writes_nothing(desk: Desk) -> None:
    probe = desk.queue()
    stale = DispatcherLease(desk.database).acquire()
    assert stale is not None
    with desk.database.writing() as session:
        session.get_one(Lease, DISPATCHER).expires_at = 0.0
    assert DispatcherLease(desk.database).acquire() is not None
    with pytest.raises(LeaseLostError):
        ProbeStore(desk.database, stale).claim(desk.get(probe), CPU)
    assert desk.get(probe).state == "queued"


def test_a_replica_whose_lease_is_taken_stands_down(desk: Desk) -> None:
    thief = DispatcherLease(desk.database, 60)

    def steal() -> bool:
        if not desk.dispatcher.leads:
            return False
        with desk.database.writing() as session:
            session.get_one(Lease, DISPATCHER).expires_at = 0.0
        return thief.acquire() is not None

    desk.run(steal)
    desk.run(lambda: not desk.dispatcher.leads and desk.engine.released > 0)


def vars_of(worker: Worker) -> dict[str, object]:
    return {name: getattr(worker, name) for name in Worker.__slots__}


class SluggishDatabase(Database):
    """Takes its time over one write, once it is told to."""

    sluggish = False

    @contextmanager
    def writing(self) -> Iterator[Session]:
        if self.sluggish:
            self.sluggish = False
            time.sleep(0.5)
        with super().writing() as session:
            yield session


def test_a_renewal_under_way_when_a_replica_stops_ends_before_the_lease_is_given_up(desk: Desk) -> None:
    database = SluggishDatabase(desk.database.url)
    desk.dispatcher = Dispatcher(database, [desk.engine], 100, 0.6)
    desk.run(lambda: desk.dispatcher.leads and bool(seen_workers(database)))
    led = False

    def renewing() -> bool:
        # All that an idle dispatcher writes is its lease.
        nonlocal led
        if desk.dispatcher.leads and not led:
            led = database.sluggish = True
        return led and not database.sluggish

    desk.run(renewing)
    with database.reading() as session:
        assert session.get_one(Lease, DISPATCHER).expires_at == 0


@pytest.mark.parametrize("turns", range(6))
def test_what_is_queued_in_the_moment_of_a_stop_does_not_keep_the_server_from_stopping(
    tmp_path: Path, turns: int
) -> None:
    desk = Desk(tmp_path, FakeEngine(poll_seconds=20.0))

    async def stopped_in_time() -> bool:
        desk.engine.changed = asyncio.Event()
        running = asyncio.create_task(desk.dispatcher.run())
        await wait(lambda: bool(seen_workers(desk.database)), 8)
        await asyncio.sleep(0.1)  # it rests now, until something is queued
        running.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        desk.dispatcher.wake()
        done, _ = await asyncio.wait({running}, timeout=5)
        return bool(done)

    assert asyncio.run(stopped_in_time())
