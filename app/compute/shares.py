"""Who is next: of those who wait, the client that had least of the processors lately."""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from itertools import islice
from typing import Generic, TypeVar

_Job = TypeVar("_Job")

# After this time what somebody used counts for half.
HALF_LIFE_SECONDS = 10.0
MOST_CLIENTS = 10_000
# Who is compared with whom: the clients that were served last.
_LATEST = 64


class Shares:
    """Processor seconds of each client, fading; a bounded number of clients is remembered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def used_seconds(self, client: str) -> float:
        """What counts of `client`'s use today."""
        seconds, at = self._used.get(client, (0.0, 0.0))
        return seconds * math.exp2((at - self._clock()) / HALF_LIFE_SECONDS)

    def is_light(self, client: str) -> bool:
        """Whether `client` used less than half of what one of those used who were served lately."""
        heaviest = max(map(self.used_seconds, islice(reversed(self._used), _LATEST)), default=0.0)
        return self.used_seconds(client) < heaviest / 2

    def charge(self, client: str, seconds: float) -> None:
        """Add to what `client` has used."""
        self._used[client] = (self.used_seconds(client) + seconds, self._clock())
        self._used.move_to_end(client)
        if len(self._used) > MOST_CLIENTS:
            self._used.popitem(last=False)


class FairQueue(Generic[_Job]):
    """Jobs by client: each client's in their order, the clients by what they have used."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._jobs: dict[str, deque[_Job]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._jobs.values()))

    def add(self, client: str, job: _Job) -> None:
        """Put a job behind the client's others."""
        self._jobs.setdefault(client, deque()).append(job)

    def next(self, but: Collection[str] = ()) -> _Job | None:
        """Take the first job of the client that used least; none of the clients `but`."""
        waiting = [client for client in self._jobs if client not in but]
        if not waiting:
            return None
        client = min(waiting, key=self._shares.used_seconds)
        job = self._jobs[client].popleft()
        self._forget(client)
        return job

    def remove(self, client: str, job: _Job) -> bool:
        """Take a job out; whether it was in."""
        try:
            self._jobs[client].remove(job)
        except (KeyError, ValueError):
            return False
        self._forget(client)
        return True

    def last_of_longest(self) -> _Job | None:
        """Take out the newest job of the client that has most of them waiting."""
        if not self._jobs:
            return None
        client = max(self._jobs, key=lambda name: len(self._jobs[name]))
        job = self._jobs[client].pop()
        self._forget(client)
        return job

    def clients(self) -> Collection[str]:
        """Who waits."""
        return self._jobs.keys()

    def _forget(self, client: str) -> None:
        if not self._jobs[client]:
            del self._jobs[client]
