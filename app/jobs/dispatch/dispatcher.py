"""The plain loop that moves probes: one per engine, on the one replica that holds the lease.

Every step may be cut off by a kill -9 and is safe to repeat: intent is written before the effect, engines take a ref
once, and every write checks the lease's fence and the probe's attempt.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Sequence

from sqlalchemy.exc import DataError

from app.db.database import Database, StorageUnavailableError
from app.db.models import Probe
from app.engines.base import Engine, EngineDownError, EngineRefusedError, LogsLostError, Status, Worker
from app.jobs.dispatch.deadlines import Stopwatch, is_due
from app.jobs.dispatch.decision import Step, decide
from app.jobs.dispatch.housekeeping import Housekeeping
from app.jobs.dispatch.lease import LEASE_SECONDS, DispatcherLease, Fence, LeaseLostError
from app.jobs.dispatch.probe_store import Pen
from app.jobs.dispatch.roster import Roster
from app.jobs.dispatch.scheduling import choose, free_slots, job_for, ref_of
from app.jobs.probe_events import StaleProbeError

_LOG = logging.getLogger(__name__)
_LONGEST_PAUSE_SECONDS = 10.0
_INSTRUMENTS = {"cpu": ("dry-run", "cpu"), "gpu": ("cuda",)}


class Dispatcher:
    """Holds the lease where it can, and serves every engine while it does."""

    def __init__(
        self,
        database: Database,
        engines: Sequence[Engine],
        probes_kept: int,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._database = database
        self._engines = engines
        self._probes_kept = probes_kept
        self._lease = DispatcherLease(database, lease_seconds)
        self._beat_seconds = lease_seconds / 3
        self._loops: list[asyncio.Task[None]] = []
        self._fence: Fence | None = None
        self._renewal: asyncio.Future[Fence | None] | None = None

    @property
    def leads(self) -> bool:
        """Whether this replica dispatches now."""
        return self._fence is not None

    def wake(self) -> None:
        """Something was queued or cancelled: look now instead of at the next poll."""
        for engine in self._engines:
            engine.changed.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                await self._beat()
                await asyncio.sleep(self._beat_seconds if self.leads else min(1.0, self._beat_seconds))
        finally:
            await self._stand_down()
            if self._renewal is not None:
                # A thread cannot be cancelled: what it renews after the release would hold up the others.
                await asyncio.gather(self._renewal, return_exceptions=True)
            with contextlib.suppress(StorageUnavailableError):
                await asyncio.to_thread(self._lease.release)

    async def _beat(self) -> None:
        try:
            self._renewal = asyncio.ensure_future(asyncio.to_thread(self._lease.acquire))
            fence = await asyncio.shield(self._renewal)
        except StorageUnavailableError as error:
            # The loops go on: each of their writes checks the fence by itself.
            _LOG.warning("the dispatcher's lease cannot be renewed: %s", error.title)
            return
        if fence == self._fence:
            return
        await self._stand_down()
        self._fence = fence
        if fence is not None:
            _LOG.info("this replica dispatches", extra={"fence": fence.number})
            pen = Pen(self._database, fence)
            self._loops = [asyncio.create_task(self._serve(engine, pen)) for engine in self._engines]
            housekeeping = Housekeeping(pen, self._engines, self._probes_kept)
            self._loops += [asyncio.create_task(work) for work in (housekeeping.run(), self._take_back(pen))]

    async def _stand_down(self) -> None:
        held, self._fence = self._fence, None
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops = []
        if held is not None:
            for engine in self._engines:
                await engine.release()

    async def _serve(self, engine: Engine, pen: Pen) -> None:
        roster, stopwatch = Roster(self._database, pen), Stopwatch()
        pause = engine.poll_seconds
        while True:
            engine.changed.clear()
            try:
                await self._tick(engine, pen, roster, stopwatch)
                pause = engine.poll_seconds
            except (EngineDownError, StorageUnavailableError) as error:
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                await roster.trouble(engine.name, str(error))
            except LeaseLostError:
                return
            except Exception:  # A bug met here must not stop the queue: it is logged with its trace, then tried again.
                _LOG.exception("the dispatcher stumbled", extra={"engine": engine.name})
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            # Not wait_for: on Python 3.11 it loses a cancellation that meets the event (python/cpython#86296).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await engine.changed.wait()

    async def _tick(self, engine: Engine, pen: Pen, roster: Roster, stopwatch: Stopwatch) -> None:
        live = await asyncio.to_thread(pen.live, engine.name)
        stopwatch.keep({ref_of(probe) for probe in live})
        for probe in live:
            if is_due(probe.not_before, time.time()):
                await _guarded(pen, probe, settle(engine, pen, probe, stopwatch))
        workers = await engine.capacity()
        await roster.show(engine.name, workers)
        await self._place(engine, pen, workers)

    async def _place(self, engine: Engine, pen: Pen, workers: Sequence[Worker]) -> None:
        free = free_slots(workers, await asyncio.to_thread(pen.busy))
        kinds = {worker.kind for worker in workers if free[worker.id] > 0}
        for kind in sorted(kinds):
            for probe in await asyncio.to_thread(pen.waiting, _INSTRUMENTS[kind]):
                worker = choose(probe, workers, free)
                if worker is None:
                    continue
                free[worker.id] -= 1
                if await asyncio.to_thread(pen.claim, probe, worker):
                    claimed = await asyncio.to_thread(pen.again, probe)
                    await _guarded(pen, claimed, start(engine, pen, claimed, worker))
                if not any(free[each.id] > 0 for each in workers if each.kind == kind):
                    break

    async def _take_back(self, pen: Pen) -> None:
        """Run elsewhere what an engine had that is no longer configured."""
        names = [engine.name for engine in self._engines]
        try:
            await asyncio.to_thread(pen.drop_strange_workers, names)
            for probe in await asyncio.to_thread(pen.strays, names):
                lost = Status("lost", f"its engine, {probe.engine}, is no longer configured")
                await _guarded(pen, probe, _write_down(pen, probe, decide(probe, lost, 0.0)))
        except (StorageUnavailableError, LeaseLostError) as error:
            _LOG.warning("probes of engines no longer configured were not taken back: %s", error)


async def settle(engine: Engine, pen: Pen, probe: Probe, stopwatch: Stopwatch) -> None:
    """Take a live probe as far as its engine's word allows."""
    status = await engine.status(ref_of(probe))
    if status.phase != "absent" and (not probe.seen or (status.phase == "running" and probe.state == "claimed")):
        await asyncio.to_thread(pen.see, probe, status)
        probe = await asyncio.to_thread(pen.again, probe)
    if status.phase not in {"absent", "pending"}:
        status, probe = await _read_log(engine, pen, probe, status)
    step = decide(probe, status, stopwatch.seconds(ref_of(probe), runs=status.phase == "running"))
    if step.act == "submit":
        await start(engine, pen, probe, None)
    elif step.act == "stop":
        await engine.cancel(ref_of(probe))
    await _write_down(pen, probe, step)


async def _write_down(pen: Pen, probe: Probe, step: Step) -> None:
    if step.end is not None:
        await asyncio.to_thread(pen.finish, probe, step.end, step.reason)
    elif step.act == "requeue":
        await asyncio.to_thread(pen.requeue, probe, step.reason or "lost", with_server=step.with_server)


async def start(engine: Engine, pen: Pen, probe: Probe, worker: Worker | None) -> None:
    """Hand a claimed probe to its engine; the same ref may be handed over again after a crash."""
    if worker is None:
        worker = next((each for each in await engine.capacity() if each.id == probe.worker), None)
    if worker is None:
        await asyncio.to_thread(pen.requeue, probe, f"its worker {probe.worker} is no longer attached")
        return
    try:
        await engine.submit(job_for(probe, worker))
    except EngineRefusedError as error:
        await asyncio.to_thread(pen.finish, probe, "failed", str(error))


async def _read_log(engine: Engine, pen: Pen, probe: Probe, status: Status) -> tuple[Status, Probe]:
    more = True
    while more:
        try:
            page = await engine.logs(ref_of(probe), probe.log_offset)
        except LogsLostError:
            lost = status.phase == "succeeded" and probe.measurement is None
            return (Status("lost", "its log was lost with the machine") if lost else status), probe
        if page.next_offset > probe.log_offset:
            await asyncio.to_thread(pen.record, probe, page)
        more = page.more
        probe = await asyncio.to_thread(pen.again, probe)
    return status, probe


async def _guarded(pen: Pen, probe: Probe, act: Awaitable[None]) -> None:
    """Keep one probe's trouble from the others. What concerns them all goes on up."""
    try:
        await act
    except StaleProbeError:
        # Cancelled, or another replica was quicker: the next look sees it as it is.
        return
    except (EngineDownError, StorageUnavailableError, LeaseLostError):
        raise
    except (DataError, OverflowError) as error:
        # What it says cannot be written down, and will not be the next time: its end, and nobody else's trouble.
        _LOG.exception("a probe's data cannot be recorded", extra={"probe": probe.id})
        with contextlib.suppress(StaleProbeError):
            await asyncio.to_thread(pen.fault, probe, f"its data cannot be recorded ({type(error).__name__})", most=1)
    except Exception as error:  # A poisoned row must not starve the rest: pushed away, its reason kept.
        _LOG.exception("the dispatcher stumbled over a probe", extra={"probe": probe.id})
        with contextlib.suppress(StaleProbeError):
            await asyncio.to_thread(pen.fault, probe, f"{type(error).__name__}: {error}"[:300])
