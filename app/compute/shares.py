"""Who is next: of those who wait, the client that had least of the processors lately."""

import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection
from itertools import islice
from typing import Generic, TypeVar

_Job = TypeVar("_Job")

# After this time what a client used counts for half.
HALF_LIFE_SECONDS = 10.0
MOST_CLIENTS = 10_000
# So many requests at once are few, and so many times what the others' heaviest used is little for whoever asks few.
_FEW = 2
_OF_FEW = 3.0
# Whoever asks few things at once asks little until it used this, some six pages of models that no worker has seen:
# when a crowd arrives, what it uses is charged later than what it makes others wait.
_VISIT_SECONDS = 2.0
# Whoever used less than this, two pages of a model seen before, is not felt by others.
_NOTICED_SECONDS = 0.05
# Who is compared with whom: the clients that were served last.
_LATEST = 64


class Shares:
    """Processor seconds of each client, fading; a bounded number of clients is remembered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._asking: Counter[str] = Counter()
        # How many were here at once, and when.
        self._crowds: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def used_seconds(self, client: str) -> float:
        """What counts of `client`'s use today."""
        seconds, at = self._used.get(client, (0.0, 0.0))
        return seconds * math.exp2((at - self._clock()) / HALF_LIFE_SECONDS)

    def asks(self, client: str) -> None:
        """One more request of `client` is here."""
        self._asking[client] += 1
        self._crowds[client] = (max(self._asking[client], self._crowd(client)), self._clock())
        self._crowds.move_to_end(client)
        if len(self._crowds) > MOST_CLIENTS:
            self._crowds.popitem(last=False)

    def answered(self, client: str) -> None:
        """One of them is over."""
        self._asking[client] -= 1
        if not self._asking[client]:
            del self._asking[client]

    def is_light(self, client: str) -> bool:
        """Whether `client` asks little beside others: one or two things at a time as people do, and no more than a
        visit's pages or three times what the one of those served lately used who used most.
        """
        least = max(_VISIT_SECONDS, self._most_of_others(client) * _OF_FEW)
        return self._crowd(client) <= _FEW and self.used_seconds(client) < least

    def is_heavy(self, client: str) -> bool:
        """Whether others were served lately, and `client` does not ask little beside them."""
        return self._most_of_others(client) > _NOTICED_SECONDS and not self.is_light(client)

    def _crowd(self, client: str) -> int:
        """How many requests of `client` were here at once lately."""
        most, at = self._crowds.get(client, (0, 0.0))
        return most if self._clock() - at < HALF_LIFE_SECONDS else self._asking[client]

    def _most_of_others(self, client: str) -> float:
        latest = islice(reversed(self._used), _LATEST)
        return max((self.used_seconds(other) for other in latest if other != client), default=0.0)

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

    def next(self, may: Callable[[str], bool] = lambda _: True) -> _Job | None:
        """Take the first job of the client that used least, of those who `may`."""
        waiting = [client for client in self._jobs if may(client)]
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

    def wants_the_place_of(self, client: str) -> bool:
        """Whether anybody waits for whom `client`'s work is given up. Whoever asks little gives way to others alone who
        do so, too: beside a crowd somebody always waits, and what was given up is worked out again, at a low priority.
        """
        if not self._shares.is_light(client):
            return len(self._jobs) > 0
        return any(other != client and self._shares.is_light(other) for other in self._jobs)

    def clients(self) -> Collection[str]:
        """Who waits."""
        return self._jobs.keys()

    def _forget(self, client: str) -> None:
        if not self._jobs[client]:
            del self._jobs[client]
