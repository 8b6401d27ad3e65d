"""The loop that moves probes from state to state: one per engine, on the replica that holds the lease.

Every step may be interrupted by kill -9 and is safe to repeat: the intent is written before the effect, an engine
accepts each ref once, and every write checks the lease's fencing token and the attempt number.
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
from app.jobs.dispatch.probe_store import ProbeStore
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
        self._renewal_seconds = lease_seconds / 3
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
                await self._renew_lease()
                await asyncio.sleep(self._renewal_seconds if self.leads else min(1.0, self._renewal_seconds))
        finally:
            await self._stop_loops()
            if self._renewal is not None:
                # A thread cannot be cancelled: what it renews after the release would hold up the others.
                await asyncio.gather(self._renewal, return_exceptions=True)
            with contextlib.suppress(StorageUnavailableError):
                await asyncio.to_thread(self._lease.release)

    async def _renew_lease(self) -> None:
        try:
            self._renewal = asyncio.ensure_future(asyncio.to_thread(self._lease.acquire))
            fence = await asyncio.shield(self._renewal)
        except StorageUnavailableError as error:
            # The loops go on: each of their writes checks the fence by itself.
            _LOG.warning("the dispatcher's lease cannot be renewed: %s", error.title)
            return
        if fence == self._fence:
            return
        await self._stop_loops()
        self._fence = fence
        if fence is not None:
            _LOG.info("this replica dispatches", extra={"fence": fence.number})
            store = ProbeStore(self._database, fence)
            self._loops = [asyncio.create_task(self._serve(engine, store)) for engine in self._engines]
            housekeeping = Housekeeping(store, self._engines, self._probes_kept)
            self._loops += [asyncio.create_task(work) for work in (housekeeping.run(), self._requeue_orphans(store))]

    async def _stop_loops(self) -> None:
        held, self._fence = self._fence, None
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops = []
        if held is not None:
            for engine in self._engines:
                await engine.release()

    async def _serve(self, engine: Engine, store: ProbeStore) -> None:
        roster, stopwatch = Roster(self._database, store), Stopwatch()
        pause = engine.poll_seconds
        while True:
            engine.changed.clear()
            try:
                await self._tick(engine, store, roster, stopwatch)
                pause = engine.poll_seconds
            except (EngineDownError, StorageUnavailableError) as error:
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                await roster.trouble(engine.name, str(error))
            except LeaseLostError:
                return
            except Exception:  # A bug here must not stop the queue: log the traceback, retry.
                _LOG.exception("dispatcher iteration failed; retrying", extra={"engine": engine.name})
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            # Not wait_for: on Python 3.11 it loses a cancellation that meets the event (python/cpython#86296).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await engine.changed.wait()

    async def _tick(self, engine: Engine, store: ProbeStore, roster: Roster, stopwatch: Stopwatch) -> None:
        live = await asyncio.to_thread(store.live, engine.name)
        stopwatch.keep({ref_of(probe) for probe in live})
        for probe in live:
            if is_due(probe.not_before, time.time()):
                await _isolated(store, probe, settle(engine, store, probe, stopwatch))
        workers = await engine.capacity()
        await roster.show(engine.name, workers)
        await self._place(engine, store, workers)

    async def _place(self, engine: Engine, store: ProbeStore, workers: Sequence[Worker]) -> None:
        free = free_slots(workers, await asyncio.to_thread(store.busy))
        kinds = {worker.kind for worker in workers if free[worker.id] > 0}
        for kind in sorted(kinds):
            for probe in await asyncio.to_thread(store.waiting, _INSTRUMENTS[kind]):
                worker = choose(probe, workers, free)
                if worker is None:
                    continue
                free[worker.id] -= 1
                if await asyncio.to_thread(store.claim, probe, worker):
                    claimed = await asyncio.to_thread(store.reread, probe)
                    await _isolated(store, claimed, start(engine, store, claimed, worker))
                if not any(free[each.id] > 0 for each in workers if each.kind == kind):
                    break

    async def _requeue_orphans(self, store: ProbeStore) -> None:
        """Requeue live probes of engines that are no longer configured."""
        names = [engine.name for engine in self._engines]
        try:
            await asyncio.to_thread(store.remove_unknown_workers, names)
            for probe in await asyncio.to_thread(store.of_other_engines, names):
                lost = Status("lost", f"its engine, {probe.engine}, is no longer configured")
                await _isolated(store, probe, _apply(store, probe, decide(probe, lost, 0.0)))
        except (StorageUnavailableError, LeaseLostError) as error:
            _LOG.warning("probes of engines no longer configured were not requeued: %s", error)


async def settle(engine: Engine, store: ProbeStore, probe: Probe, stopwatch: Stopwatch) -> None:
    """Advance a live probe as far as its engine's reported status allows."""
    status = await engine.status(ref_of(probe))
    if status.phase != "absent" and (not probe.seen or (status.phase == "running" and probe.state == "claimed")):
        await asyncio.to_thread(store.mark_seen, probe, status)
        probe = await asyncio.to_thread(store.reread, probe)
    if status.phase not in {"absent", "pending"}:
        status, probe = await _read_log(engine, store, probe, status)
    step = decide(probe, status, stopwatch.seconds(ref_of(probe), runs=status.phase == "running"))
    if step.act == "submit":
        await start(engine, store, probe, None)
    elif step.act == "stop":
        await engine.cancel(ref_of(probe))
    await _apply(store, probe, step)


async def _apply(store: ProbeStore, probe: Probe, step: Step) -> None:
    if step.end is not None:
        await asyncio.to_thread(store.finish, probe, step.end, step.reason)
    elif step.act == "requeue":
        await asyncio.to_thread(store.requeue, probe, step.reason or "lost", with_server=step.with_server)


async def start(engine: Engine, store: ProbeStore, probe: Probe, worker: Worker | None) -> None:
    """Hand a claimed probe to its engine; the same ref may be handed over again after a crash."""
    if worker is None:
        worker = next((each for each in await engine.capacity() if each.id == probe.worker), None)
    if worker is None:
        await asyncio.to_thread(store.requeue, probe, f"its worker {probe.worker} is no longer attached")
        return
    try:
        await engine.submit(job_for(probe, worker))
    except EngineRefusedError as error:
        await asyncio.to_thread(store.finish, probe, "failed", str(error))


async def _read_log(engine: Engine, store: ProbeStore, probe: Probe, status: Status) -> tuple[Status, Probe]:
    more = True
    while more:
        try:
            page = await engine.logs(ref_of(probe), probe.log_offset)
        except LogsLostError:
            lost = status.phase == "succeeded" and probe.measurement is None
            return (Status("lost", "its log was lost with the machine") if lost else status), probe
        if page.next_offset > probe.log_offset:
            await asyncio.to_thread(store.record, probe, page)
        more = page.more
        probe = await asyncio.to_thread(store.reread, probe)
    return status, probe


async def _isolated(store: ProbeStore, probe: Probe, act: Awaitable[None]) -> None:
    """Contain an error that concerns one probe; errors of the engine, database or lease are raised."""
    try:
        await act
    except StaleProbeError:
        # Cancelled, or moved by another replica: the next iteration reads its new state.
        return
    except (EngineDownError, StorageUnavailableError, LeaseLostError):
        raise
    except (DataError, OverflowError) as error:
        # Its data cannot be stored, now or on a retry: this probe fails, the others go on.
        _LOG.exception("a probe's data cannot be recorded", extra={"probe": probe.id})
        with contextlib.suppress(StaleProbeError):
            await asyncio.to_thread(store.fault, probe, f"its data cannot be recorded ({type(error).__name__})", most=1)
    except Exception as error:  # One bad row must not block the queue: it is postponed, with the reason kept.
        _LOG.exception("dispatching one probe failed; it will be retried later", extra={"probe": probe.id})
        with contextlib.suppress(StaleProbeError):
            await asyncio.to_thread(store.fault, probe, f"{type(error).__name__}: {error}"[:300])
