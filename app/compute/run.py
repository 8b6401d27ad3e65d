"""One job in one worker."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.compute.budgets import (
    BUDGET_SECONDS,
    CONTENDED_SECONDS,
    KILL_SECONDS,
    LIGHT_SLICE_SECONDS,
    LIGHT_WAITS_SECONDS,
    LONGEST_SECONDS,
    LOOK_SECONDS,
    SLICE_SECONDS,
    SLOW_PLACES,
)
from app.compute.processes import NoWorkersError, Worker
from app.compute.questions import Question
from app.compute.refusals import OverBudgetError, cannot_now
from planner.errors import FieldProblem

if TYPE_CHECKING:
    from app.compute.pool import Pool


# How the name begins under which a page is worked out for all; clients have addresses.
FOR_ALL = "/"


class _NoRoomError(Exception):
    """All workers together hold too much, and this job's the most: it starts again once there is room."""


# The message with a fact in it, or None where a worker should not wait for that.
Tell = Callable[[Question], Awaitable[bytes | None]]


@dataclass(eq=False, slots=True)
class Job:
    """One request on its way through the pool."""

    client: str
    message: bytes
    alone: bool
    tell: Tell
    reply: asyncio.Future[tuple[Any, ...]]
    waited_seconds: float = 0.0
    waits_since: float = 0.0
    restarts: int = 0
    asked_at: float = field(default_factory=time.monotonic)
    shed: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = field(default=None)

    @property
    def is_for_all(self) -> bool:
        """Whether no client asked for it, but a page (app/compute/middleware.py, ACCURACY)."""
        return self.client.startswith(FOR_ALL)


class Run:
    """From its place in the pool to its reply."""

    def __init__(self, pool: "Pool", job: Job, *, slow: bool) -> None:
        self.pool, self.job, self.slow = pool, job, slow
        self.started = time.monotonic()
        self.before: float | None = None
        self.used = self.charged = 0.0
        self.again = False
        # Done once a lighter client wants the place.
        self.way: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Answer the job, or say why not."""
        try:
            self.again = await self._answered()
        except _NoRoomError:
            self.again = True
        except (NoWorkersError, TimeoutError) as error:
            if not self.job.reply.done():
                self.job.reply.set_exception(cannot_now(error))

    def end(self, task: asyncio.Task[None]) -> None:
        """Give the place back once `task`, which is `run`, is over.

        A callback and no `finally` of `run`: where the client leaves before the task's first step, asyncio closes the
        coroutine without ever entering it, and the place would be taken for good.
        """
        pool, job = self.pool, self.job
        self._charge()
        self._leave_place()
        if not job.reply.done() and not task.cancelled():
            if self.again:
                job.restarts += 1
                pool.enqueue(pool.slow, job)
            elif (error := task.exception()) is not None:
                job.reply.set_exception(error)
        pool.dispatch()

    async def _answered(self) -> bool:
        """Give the job its reply; True where it must start again in a slow place."""
        worker = await self._worker()
        self.pool.busy[worker] = self.job
        self.before = worker.processor_seconds()
        asked = asyncio.ensure_future(self._talk(worker))
        try:
            while not asked.done():
                if self.slow:
                    await asyncio.wait([asked], timeout=LOOK_SECONDS)
                    self._mind_memory(worker, asked)
                else:
                    await self._slice(worker, asked)
                    if not asked.done() and not self._moved(worker) and self._must_end(worker):
                        return True
                if not asked.done() and self._is_over_budget(worker):
                    self._over_budget()
                    return False
            self._used_seconds(worker)
            if not self.job.reply.done():
                self.job.reply.set_result(asked.result())
            return False
        finally:
            self._put_back(worker, asked)

    async def _slice(self, worker: Worker, asked: asyncio.Future[tuple[Any, ...]]) -> None:
        """Wait for the reply, the end of the slice, or a lighter client."""
        self.pool.quick_runs.add(self)
        try:
            began = self._used_seconds(worker)
            while not asked.done() and self._used_seconds(worker) - began < self._slice_seconds():
                if self.way.done() and self.used > SLICE_SECONDS:
                    return
                waits: set[asyncio.Future[Any]] = {asked} if self.way.done() else {asked, self.way}
                await asyncio.wait(waits, timeout=SLICE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                self._mind_memory(worker, asked)
        finally:
            self.pool.quick_runs.discard(self)

    def _must_end(self, worker: Worker) -> bool:
        """Whether what was worked out so far is given up for those who wait."""
        longest_seconds = SLICE_SECONDS if self.way.done() else LIGHT_SLICE_SECONDS
        return self._used_seconds(worker) > longest_seconds and self.pool.quick.wants_the_place_of(self.job.client)

    async def _talk(self, worker: Worker) -> tuple[Any, ...]:
        """Send the request, and what the worker asks for where that is at hand."""
        reply = await worker.ask(self.job.message)
        while reply[0] == "asks" and not worker.ends and (fact := await self.job.tell(tuple(reply[1]))) is not None:
            reply = await worker.ask(fact)
        return reply

    async def _worker(self) -> Worker:
        pool = self.pool
        low = not self.job.is_for_all and (self.slow or pool.shares.is_heavy(self.job.client))
        if not self.job.alone and (worker := pool.idle_worker(low=low)) is not None:
            return worker
        await pool.start()
        await pool.room_for_a_worker()
        assert pool.template is not None  # noqa: S101 (start made it)
        worker = await pool.template.worker(low=low)
        pool.made_a_worker()
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
        self._charge()
        return self.used

    def _charge(self) -> None:
        """Charge the client as the job goes on: at its end it would count only after others have waited for it."""
        self.pool.shares.charge(self.job.client, self.used - self.charged)
        self.charged = self.used

    def _slice_seconds(self) -> float:
        return LIGHT_SLICE_SECONDS if self.pool.shares.is_light(self.job.client) else SLICE_SECONDS

    def _is_over_budget(self, worker: Worker) -> bool:
        pool, own = self.pool, self.job.client
        others = [client for client in pool.slow.clients() if client != own]
        budget_seconds = CONTENDED_SECONDS if others and not self.job.is_for_all else BUDGET_SECONDS
        if any(map(pool.shares.is_light, others)) and pool.shares.is_heavy(own):
            budget_seconds = LIGHT_WAITS_SECONDS
        since_asked_seconds = time.monotonic() - self.job.asked_at
        return self._used_seconds(worker) > budget_seconds or since_asked_seconds > LONGEST_SECONDS

    def _mind_memory(self, worker: Worker, asked: asyncio.Future[tuple[Any, ...]]) -> None:
        """Give this job up for now where all together hold too much and it is this one's turn.

        Raises:
            _NoRoomError: it does.
        """
        if asked.done():
            return
        heavy, busy = self.pool.weigh(), self.pool.busy

        def turn(each: Worker) -> tuple[bool, int, int]:
            # Heavy clients first; then the largest of those aborted least often, so that all finish.
            return self.pool.shares.is_heavy(busy[each].client), -busy[each].restarts, heavy[each]

        own = [each for each in heavy if not busy[each].is_for_all]
        if len(own) > 1 and worker is max(own, key=turn):
            raise _NoRoomError

    def _over_budget(self) -> None:
        if not self.job.reply.done():
            fix = f"one request may take {BUDGET_SECONDS:g} s, less while others wait; ask for less, or try again later"
            self.job.reply.set_exception(OverBudgetError("This took too long.", [FieldProblem("request", fix)]))

    def _put_back(self, worker: Worker, asked: asyncio.Future[tuple[Any, ...]]) -> None:
        del self.pool.busy[worker]
        if not asked.done():
            self._used_seconds(worker)
            asked.cancel()
            self.pool.kill(worker)
            self.used += KILL_SECONDS
        elif worker.ends:
            self.pool.let_go(worker)
        else:
            self.pool.idle.append(worker)
