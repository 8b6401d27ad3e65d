"""A bounded number of workers for any number of requests.

A request first gets a short slice in one of the quick places, by turns of least use, so that whoever asks little never
waits long. One that needs more goes on beside them in one of the slow places, one for each client; where there is none
it starts again when one is free. Whatever waits too long, or takes longer than its budget, is given up.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from app.compute.processes import NoWorkersError, Template, Worker
from app.compute.shares import FairQueue, Shares
from planner.errors import FieldProblem, FitproofError
from planner.units import MIB

QUICK_PLACES = 2
SLOW_PLACES = 2
# Of a processor, not of the clock: on a busy machine a plan is no larger. A plan's page takes some 20 ms (make bench).
SLICE_SECONDS = 0.1
# For whoever asks little beside others who ask much: a map of a model that no worker has seen takes half of it.
LIGHT_SLICE_SECONDS = 0.5
BUDGET_SECONDS = 10.0
# What is left of the budget while others wait for the place, and while somebody waits who asks little.
CONTENDED_SECONDS = 2.0
LIGHT_WAITS_SECONDS = 0.5
# The budget by the clock, where the processors are taken by others.
LONGEST_SECONDS = 30.0
# Waiting ends before two seconds have passed.
MOST_WAITING_SECONDS = 1.8
MOST_WAITING = 256
MOST_WAITING_BYTES = 16 * MIB
_LOOK_SECONDS = 0.25
# Ending a worker costs a new one, some 10 ms of a processor.
_KILL_SECONDS = 0.02


class BusyError(FitproofError):
    """Too many others ask at the moment."""

    status = 503
    code = "busy"
    headers = {"Retry-After": "2"}  # noqa: RUF012 (read only, in the shape problems.py takes)


class OverBudgetError(FitproofError):
    """The request took more time than one may."""

    status = 503
    code = "over_budget"
    headers = {"Retry-After": "10"}  # noqa: RUF012 (as above)


class BeyondAllModelsError(FitproofError):
    """The request takes more memory than any model's plan."""

    status = 422
    code = "too_large"


class ComputationFailedError(Exception):
    """A worker broke over a request: a fault of ours. Holds the worker's trace."""


@dataclass(eq=False, slots=True)
class _Job:
    client: str
    message: bytes
    alone: bool
    reply: asyncio.Future[tuple[Any, ...]]
    waited_seconds: float = 0.0
    waits_since: float = 0.0
    shed: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = field(default=None)


class Pool:
    """Answers messages in workers. Opens with the first request, or with `start`."""

    def __init__(self) -> None:
        self.shares = Shares()
        self.quick: FairQueue[_Job] = FairQueue(self.shares)
        self.slow: FairQueue[_Job] = FairQueue(self.shares)
        self._waiting_bytes = 0
        self.idle: list[Worker] = []
        self.quick_running = 0
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
                self.template = await Template.started()

    async def answer(self, client: str, message: bytes, *, alone: bool = False) -> tuple[Any, ...]:
        """Have `message` answered for `client`, `alone`: in a new worker. Cancelling frees its place at once.

        Raises:
            BusyError: it would wait too long.
            OverBudgetError: it took too long.
            BeyondAllModelsError: it took too much memory.
            ComputationFailedError: the worker broke.
        """
        if self.template is None or not self.template.is_alive:
            # Whoever asked first may leave before it runs; others wait for it, too.
            await asyncio.shield(asyncio.ensure_future(self.start()))
        job = _Job(client, message, alone, asyncio.get_running_loop().create_future())
        self.enqueue(self.quick, job)
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
        for task in list(self._tasks):
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

    def enqueue(self, queue: FairQueue[_Job], job: _Job) -> None:
        """Let a job wait, but not for long."""
        queue.add(job.client, job)
        self._waiting_bytes += len(job.message)
        job.waits_since = time.monotonic()
        loop = asyncio.get_running_loop()
        job.shed = loop.call_later(MOST_WAITING_SECONDS - job.waited_seconds, self._shed_waiting, job)

    def _dequeued(self, job: _Job) -> None:
        self._waiting_bytes -= len(job.message)
        job.waited_seconds += time.monotonic() - job.waits_since
        if job.shed is not None:
            job.shed.cancel()
            job.shed = None

    def _shed_waiting(self, job: _Job) -> None:
        if self.quick.remove(job.client, job) or self.slow.remove(job.client, job):
            self._shed(job)

    def _shed(self, job: _Job) -> None:
        self._dequeued(job)
        if not job.reply.done():
            fix = "too many ask at the moment; try again in 2 s"
            job.reply.set_exception(BusyError("The server is busy.", [FieldProblem("request", fix)]))

    def _leave(self, job: _Job) -> None:
        """Whoever asked has an answer or is gone."""
        if self.quick.remove(job.client, job) or self.slow.remove(job.client, job):
            self._dequeued(job)
        if job.task is not None and not job.task.done():
            job.task.cancel()

    def dispatch(self) -> None:
        """Fill the free places."""
        while self.quick_running < QUICK_PLACES and (job := self.quick.next()) is not None:
            self._dequeued(job)
            self.quick_running += 1
            self._run(job, slow=False)
        while len(self.slow_clients) < SLOW_PLACES and (job := self.slow.next(self.slow_clients)) is not None:
            self._dequeued(job)
            self.slow_clients.append(job.client)
            self._run(job, slow=True)

    def _run(self, job: _Job, *, slow: bool) -> None:
        job.task = asyncio.create_task(_Run(self, job, slow=slow).run())
        self._tasks.add(job.task)
        job.task.add_done_callback(self._tasks.discard)


class _Run:
    """One job in one worker, from its place in the pool to its reply."""

    def __init__(self, pool: Pool, job: _Job, *, slow: bool) -> None:
        self.pool, self.job, self.slow = pool, job, slow
        self.started = time.monotonic()
        self.before: float | None = None
        self.used = 0.0

    async def run(self) -> None:
        """Answer the job, or say why not."""
        pool, job = self.pool, self.job
        again = False
        try:
            again = await self._answered()
        except (NoWorkersError, TimeoutError) as error:
            if not job.reply.done():
                job.reply.set_exception(BusyError(f"The server cannot work this out now: {error}."))
        finally:
            pool.shares.charge(job.client, self.used)
            self._leave_place()
            if again and not job.reply.done():
                pool.enqueue(pool.slow, job)
            pool.dispatch()

    async def _answered(self) -> bool:
        """Give the job its reply; True where it must start again in a slow place."""
        worker = await self._worker()
        self.before = worker.processor_seconds()
        asked = asyncio.ensure_future(worker.ask(self.job.message))
        try:
            if not self.slow:
                while not asked.done() and self._used_seconds(worker) < self._slice_seconds():
                    await asyncio.wait([asked], timeout=SLICE_SECONDS)
                if not asked.done() and not self._moved(worker):
                    return True
            while not asked.done():
                await asyncio.wait([asked], timeout=_LOOK_SECONDS)
                if not asked.done() and self._is_over_budget(worker):
                    self._over_budget()
                    return False
            self._used_seconds(worker)
            if not self.job.reply.done():
                self.job.reply.set_result(asked.result())
            return False
        finally:
            self._put_back(worker, asked)

    async def _worker(self) -> Worker:
        pool = self.pool
        if not self.slow and not self.job.alone and pool.idle:
            return pool.idle.pop()
        await pool.start()
        assert pool.template is not None  # noqa: S101 (start made it)
        worker = await pool.template.worker(slow=self.slow)
        self.started = time.monotonic()  # the template may have had to start
        return worker

    def _moved(self, worker: Worker) -> bool:
        """Go on in a slow place, and leave the quick one to others."""
        slow = self.pool.slow_clients
        if len(slow) >= SLOW_PLACES or self.job.client in slow:
            return False
        self._leave_place()
        self.slow = True
        slow.append(self.job.client)
        worker.slow_down()
        self.pool.dispatch()
        return True

    def _leave_place(self) -> None:
        if self.slow:
            self.pool.slow_clients.remove(self.job.client)
        else:
            self.pool.quick_running -= 1

    def _used_seconds(self, worker: Worker) -> float:
        """What the job took of a processor so far; by the clock where the system does not say."""
        now = worker.processor_seconds()
        self.used = time.monotonic() - self.started if now is None or self.before is None else now - self.before
        return self.used

    def _slice_seconds(self) -> float:
        return LIGHT_SLICE_SECONDS if self.pool.shares.is_light(self.job.client) else SLICE_SECONDS

    def _is_over_budget(self, worker: Worker) -> bool:
        shares, own = self.pool.shares, self.job.client
        others = [client for client in self.pool.slow.clients() if client != own]
        budget_seconds = CONTENDED_SECONDS if others else BUDGET_SECONDS
        if any(map(shares.is_light, others)) and not shares.is_light(own):
            budget_seconds = LIGHT_WAITS_SECONDS
        waited_seconds = time.monotonic() - self.started
        return self._used_seconds(worker) > budget_seconds or waited_seconds > LONGEST_SECONDS

    def _over_budget(self) -> None:
        if not self.job.reply.done():
            fix = f"one request may take {BUDGET_SECONDS:g} s, less while others wait; ask for less, or try again later"
            self.job.reply.set_exception(OverBudgetError("This took too long.", [FieldProblem("request", fix)]))

    def _put_back(self, worker: Worker, asked: asyncio.Future[tuple[Any, ...]]) -> None:
        if not asked.done():
            self._used_seconds(worker)
            asked.cancel()
            worker.kill()
            self.used += _KILL_SECONDS
        elif worker.ends or self.slow:  # a slow worker's priority cannot be given back
            worker.dismiss()
        else:
            self.pool.idle.append(worker)
