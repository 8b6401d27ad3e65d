"""A bounded number of workers for any number of requests.

A request starts in one of the quick places, by turns of least use, so that light clients never wait long. One that
needs more than a slice goes on in a slow place, at a lower priority. Where those are taken it stays, until it has taken
too long for a client that waits: then it is aborted, and restarts in a slow place. Heavy clients, while others are
active, are answered at the lower priority from the start, in a slow place too, and leave one quick place to the others.
A request that waits too long, or takes longer than its budget, is refused.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from app.compute.budgets import (
    BUDGET_SECONDS,
    LOOK_SECONDS,
    MOST_WAITING,
    MOST_WAITING_BYTES,
    MOST_WAITING_SECONDS,
    SLOW_PLACES,
)
from app.compute.memory import share_bytes
from app.compute.processes import START_BYTES, NoWorkersError, Template, Worker, room_bytes
from app.compute.refusals import BeyondAllModelsError, BusyError, ComputationFailedError, cannot_now
from app.compute.run import FOR_ALL, Job, Run, Tell
from app.compute.shares import FairQueue, Shares
from planner.errors import FieldProblem

StartTemplate = Callable[[], Awaitable[Template]]

# How long to wait for workers to end before making another, and how often to look.
_LEAVING_SECONDS = 1.0
_GONE_LOOK_SECONDS = 0.005


class Pool:
    """Answers messages in workers, `places` of them at a time beside the slow places.

    Opens with the first request, or with `start`; `start_template` starts what workers are made of.
    """

    def __init__(self, places: int, start_template: StartTemplate = Template.started) -> None:
        self.places = places
        self._start_template = start_template
        self.room_bytes = room_bytes(places)
        self._weighed: tuple[float, dict[Worker, int]] = (0.0, {})
        self._held_bytes = 0
        self.shares = Shares()
        self.quick: FairQueue[Job] = FairQueue(self.shares)
        self.slow: FairQueue[Job] = FairQueue(self.shares)
        self._waiting_bytes = 0
        self.idle: list[Worker] = []
        # Process ids of workers that were told to end, and may not have.
        self._leaving: set[int] = set()
        self.busy: dict[Worker, Job] = {}
        self.quick_running = 0
        self.quick_runs: set[Run] = set()
        self.slow_clients: list[str] = []
        self.template: Template | None = None
        self._starting = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start the template, or another where it is gone.

        Raises:
            NoWorkersError: it cannot be started.
            TimeoutError: it takes too long.
        """
        async with self._starting:
            if self.template is None or not self.template.is_alive:
                self._drop_template()
                self.template = await self._start_template()

    async def answer(self, client: str, message: bytes, tell: Tell, *, alone: bool = False) -> tuple[Any, ...]:
        """Have `message` answered for `client`, `alone`: in a new worker. Cancelling frees its place at once.

        `tell` makes the message that answers a worker's question, or None where that takes longer than a worker waits.

        Raises:
            BusyError: it would wait too long.
            OverBudgetError: it took too long.
            BeyondAllModelsError: it took too much memory.
            ComputationFailedError: the worker broke.
        """
        if self.template is None or not self.template.is_alive:
            try:
                # The first client may disconnect before the template runs; others wait for it, too.
                await asyncio.shield(asyncio.ensure_future(self.start()))
            except (NoWorkersError, TimeoutError, OSError) as error:
                raise cannot_now(error) from error
        job = Job(client, message, alone, tell, asyncio.get_running_loop().create_future())
        self.shares.asks(client)
        self.enqueue(self.quick, job)
        self._make_way(client)
        while len(self.quick) > MOST_WAITING or self._waiting_bytes > MOST_WAITING_BYTES:
            if (worst := self.quick.last_of_longest()) is None:
                break
            self._shed(worst)
        self.dispatch()
        try:
            reply = await job.reply
        finally:
            self._leave(job)
        if reply[0] == "memory":
            fix = "takes more memory to work out than any model; check its layers, lists and sizes"
            raise BeyondAllModelsError("This is beyond what is planned here.", [FieldProblem("model", fix)])
        if reply[0] in ("failed", "gone"):
            raise ComputationFailedError(*reply[1:] or ("a worker ended over its request",))
        return reply

    async def close(self) -> None:
        """End everything."""
        while self._tasks:  # the end of one lets the next begin
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._drop_template()

    def _drop_template(self) -> None:
        for worker in self.idle:
            worker.dismiss()
        self.idle.clear()
        if self.template is not None:
            self.template.close()
            self.template = None

    def enqueue(self, queue: FairQueue[Job], job: Job) -> None:
        """Let a job wait, but not for long."""
        queue.add(job.client, job)
        self._waiting_bytes += len(job.message)
        job.waits_since = time.monotonic()
        loop = asyncio.get_running_loop()
        job.shed = loop.call_later(MOST_WAITING_SECONDS - job.waited_seconds, self._shed_waiting, job)

    def _dequeued(self, job: Job) -> None:
        self._waiting_bytes -= len(job.message)
        job.waited_seconds += time.monotonic() - job.waits_since
        if job.shed is not None:
            job.shed.cancel()
            job.shed = None

    def _shed_waiting(self, job: Job) -> None:
        others = {*self.quick.clients(), *self.slow.clients()} - {job.client}
        waited_seconds = job.waited_seconds + time.monotonic() - job.waits_since
        if not others and waited_seconds < BUDGET_SECONDS:
            # No other client waits: refusing a request that only a busy machine delays would help no one.
            job.shed = asyncio.get_running_loop().call_later(MOST_WAITING_SECONDS, self._shed_waiting, job)
            return
        if self.quick.remove(job.client, job) or self.slow.remove(job.client, job):
            self._shed(job)

    def _shed(self, job: Job) -> None:
        self._dequeued(job)
        if not job.reply.done():
            fix = "too many ask at the moment; try again in 2 s"
            job.reply.set_exception(BusyError("The server is busy.", [FieldProblem("request", fix)]))

    def weigh(self) -> dict[Worker, int]:
        """What each busy worker holds, idle ones being dismissed where all together hold too much; empty where that
        is enough.
        """
        at, heavy = self._weighed
        if time.monotonic() - at < LOOK_SECONDS:
            return {worker: held for worker, held in heavy.items() if worker in self.busy}
        busy = {worker: worker.share_bytes() for worker in self.busy}
        rest = share_bytes(os.getpid()) + (self.template.share_bytes() if self.template else 0)
        idle = {worker: worker.share_bytes() for worker in sorted(self.idle, key=lambda worker: not worker.is_low)}
        held = rest + sum(idle.values()) + sum(busy.values())
        for worker, size in idle.items():
            if held > self.room_bytes:
                self.idle.remove(worker)
                self.let_go(worker)
                held -= size
        heavy = busy if rest + sum(busy.values()) > self.room_bytes else {}
        growing = sum(max(START_BYTES - size, 0) for size in busy.values())
        self._weighed, self._held_bytes = (time.monotonic(), heavy), held + growing
        return heavy

    def let_go(self, worker: Worker) -> None:
        """Let an idle worker end."""
        self._leaving.add(worker.pid)
        worker.dismiss()

    def kill(self, worker: Worker) -> None:
        """End a worker over its request."""
        self._leaving.add(worker.pid)
        worker.kill()

    async def room_for_a_worker(self) -> None:
        """Wait until fewer workers are there than may be, those included that have yet to end: on a busy machine that
        takes a while, and what they hold is held until then.
        """
        ends_at = time.monotonic() + _LEAVING_SECONDS
        while self.idle and len(self.idle) + len(self.busy) >= self.places + SLOW_PLACES:
            # Those of heavy clients first.
            leaving = max(self.idle, key=lambda worker: worker.is_low)
            self.idle.remove(leaving)
            self.let_go(leaving)
        while time.monotonic() < ends_at:
            self._leaving = {pid for pid in self._leaving if share_bytes(pid)}
            if len(self._leaving) + len(self.idle) + len(self.busy) < self.places + SLOW_PLACES:
                return
            await asyncio.sleep(_GONE_LOOK_SECONDS)
        self._leaving.clear()

    def _leave(self, job: Job) -> None:
        """The client has its answer or has disconnected."""
        self.shares.answered(job.client)
        if self.quick.remove(job.client, job) or self.slow.remove(job.client, job):
            self._dequeued(job)
        if job.task is not None and not job.task.done():
            job.task.cancel()

    def _make_way(self, client: str) -> None:
        """Light clients do not wait for the slices of heavy ones."""
        if self.quick_running < self.places or not self.shares.is_light(client):
            return
        heavy = [run for run in self.quick_runs if not self.shares.is_light(run.job.client) and not run.way.done()]
        if heavy:
            min(heavy, key=lambda run: run.started).way.set_result(None)

    def dispatch(self) -> None:
        """Fill the free places."""
        while self.quick_running < self.places and (job := self.quick.next(self._may_be_quick)) is not None:
            self._dequeued(job)
            self.quick_running += 1
            self._run(job, slow=False)
        while len(self.slow_clients) < SLOW_PLACES and (job := self._next_slow()) is not None:
            self._dequeued(job)
            self.slow_clients.append(job.client)
            self._run(job, slow=True)

    def _may_be_quick(self, client: str) -> bool:
        """The last quick place is kept for those who ask little; where there is but one, all take turns. What no client
        asked for takes none.
        """
        if client.startswith(FOR_ALL):
            return False
        if not self.shares.is_heavy(client):
            return True
        is_last = self.quick_running == self.places - 1 and self.places > 1
        return not is_last and self._has_room()

    def _has_room(self) -> bool:
        """Whether one more worker of a low priority can hold what it soon will without an idle one having to go, which
        remembers what those who ask little asked for.
        """
        has_idle = any(worker.is_low for worker in self.idle)
        return has_idle or not self.busy or self._held_bytes + START_BYTES <= self.room_bytes

    def _next_slow(self) -> Job | None:
        """Who goes on in a slow place, or begins there because the quick ones are not for it."""
        job = self.quick.next(lambda client: client.startswith(FOR_ALL) and client not in self.slow_clients)
        if job is not None or not self._has_room():
            return job
        job = self.slow.next(lambda client: client not in self.slow_clients)
        return job or self.quick.next(lambda client: client not in self.slow_clients and self.shares.is_heavy(client))

    def made_a_worker(self) -> None:
        """Count what a new one soon holds, until all are weighed again."""
        self._held_bytes += START_BYTES

    def idle_worker(self, *, low: bool) -> Worker | None:
        """Take the one of this priority that answered last: it remembers what is asked for now."""
        found = next((worker for worker in reversed(self.idle) if worker.is_low == low), None)
        if found is not None:
            self.idle.remove(found)
        return found

    def _run(self, job: Job, *, slow: bool) -> None:
        run = Run(self, job, slow=slow)
        job.task = asyncio.create_task(run.run())
        self._tasks.add(job.task)
        job.task.add_done_callback(self._tasks.discard)
        job.task.add_done_callback(run.end)
