"""The loader's thread pool in one order of the many that may happen, the same for a seed. No torch.

A pool of threads reads each tensor and copies it to the card, in the order of the names, while the main thread waits
for each in turn and quantizes it. The card's memory is asked for between reading and copying. Who is ahead is chance;
here a seed decides, in one thread.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

# min(4, os.cpu_count()): transformers 5.0, core_model_loading.py. The publishers' machines had four processors or more.
THREADS = 4


class SeededPool:
    """Stands in for the loader's ThreadPoolExecutor."""

    def __init__(self, seed: int, workers: int = THREADS) -> None:
        self._chance = random.Random(seed)  # noqa: S311  # a simulation
        self._idle = workers
        self._waiting: deque[_Copy] = deque()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._scheduled = 0

    def submit(self, job: Callable[[], Any], size_bytes: int) -> "Future[Any]":
        """Queue a copy; it happens when the main thread waits for it or for one that ends later."""
        copy = _Copy(self, job, size_bytes)
        self._waiting.append(copy)
        if self._idle:
            self._idle -= 1
            self._take(0.0)
        return copy

    def run_until(self, copy: "_Copy") -> None:
        """Let time pass until this copy is there."""
        while not copy.done():
            time, _, happen = heapq.heappop(self._events)
            happen(time)

    def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None:
        """As the executor's: nothing is left to end here."""

    def _take(self, time: float) -> None:
        if self._waiting:
            copy = self._waiting.popleft()
            self._after(time, copy, lambda now: self._ask(now, copy))

    def _ask(self, time: float, copy: "_Copy") -> None:
        """The tensor was read: the card's memory is taken now, the bytes arrive later."""
        copy.ask()
        self._after(time, copy, lambda now: self._done(now, copy))

    def _done(self, time: float, copy: "_Copy") -> None:
        copy.arrive()
        self._take(time)

    def _after(self, time: float, copy: "_Copy", happen: Callable[[float], None]) -> None:
        """Half a copy later: its bytes' worth on average. Of all laws with that mean the exponential assumes least."""
        self._scheduled += 1
        moment = time + copy.size_bytes / 2 * self._chance.expovariate(1.0)
        heapq.heappush(self._events, (moment, self._scheduled, happen))


class _Copy(Future):  # type: ignore[type-arg]  # the loader asks isinstance(…, Future)
    def __init__(self, pool: SeededPool, job: Callable[[], Any], size_bytes: int) -> None:
        super().__init__()
        self.pool, self.job, self.size_bytes = pool, job, size_bytes
        self.tensor: Any = None

    def ask(self) -> None:
        try:
            self.tensor = self.job()
        except BaseException as error:  # like an executor: raised where the result is asked for
            self.set_exception(error)

    def arrive(self) -> None:
        tensor, self.tensor = self.tensor, None
        if not self.done():
            self.set_result(tensor)

    def result(self, timeout: float | None = None) -> Any:
        self.pool.run_until(self)
        return super().result(timeout)
