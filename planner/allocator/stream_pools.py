"""Pools of several streams of one card: a block serves the stream it was allocated on, and no other.

Rules read in c10/cuda/CUDACachingAllocator.cpp (get_free_block compares the stream; free, insert_events and
process_events): a block that another stream was told to use (`record_stream`) counts as free at once, and comes back to
its pool when the event that was recorded on that stream as it was freed is done. When that is, is what `reach` is told:
in training the host is ahead of the card, so that work counts as done no sooner than the host waits for it, as on a
virtual card (planner/probe/card/src/work.cpp).

With memory in plenty the pools of two streams never meet, so that each is played in pools of its own and what they
reserve adds up. Left out: a stream whose queue of 1,024 launches is full, which lets the first of them be done; no
stream of FSDP1's but the computation's has so many before the host waits for it.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from planner.allocator.native_pools import FastPools

# What streams are called.
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Lent(Generic[S]):
    """A tensor, and the stream whose memory it has."""

    stream: S
    handle: int


class StreamPools(Generic[S]):
    """Pools by stream, made as each is first used. `begun` are those of `first`, which may hold a model by now."""

    def __init__(self, first: S, begun: FastPools, new_pools: Callable[[], FastPools]) -> None:
        self._pools, self._new_pools = {first: begun}, new_pools
        # By the stream that used it: when it was freed, and what it is.
        self._late: dict[S, deque[tuple[int, Lent[S]]]] = defaultdict(deque)
        self._now = 0

    @property
    def reserved_bytes(self) -> int:
        """Segments of all streams."""
        return sum(pools.reserved_bytes for pools in self._pools.values())

    def allocate(self, stream: S, size_bytes: int) -> Lent[S]:
        """One tensor in memory of `stream`."""
        if stream not in self._pools:
            self._pools[stream] = self._new_pools()
        return Lent(stream, self._pools[stream].allocate(size_bytes))

    def free(self, lent: Lent[S]) -> None:
        """Take back what no other stream used."""
        self._pools[lent.stream].free(lent.handle)

    def free_late(self, lent: Lent[S], used_by: S) -> None:
        """Take it back once `used_by` has come to where that stream is now."""
        self._late[used_by].append((self._now, lent))

    def mark(self) -> int:
        """Now: an event that the host may wait for."""
        self._now += 1
        return self._now - 1

    def reach(self, streams: Iterable[S], mark: int) -> None:
        """The host has waited until all of `streams` were done with what they were given before `mark`."""
        for late in (self._late[stream] for stream in streams):
            while late and late[0][0] <= mark:
                self.free(late.popleft()[1])
