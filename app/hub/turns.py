"""Whose look-up is next: a few go to the hub at a time, and no client takes all the places."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PLACES = 8
PLACES_EACH = 2


class Turns:
    """`places` in all, `each` for one client; who waits is served client by client."""

    def __init__(self, places: int = PLACES, each: int = PLACES_EACH) -> None:
        self._free, self._each = places, each
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it until the block ends."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(mine)
        self._grant()
        try:
            await mine
            yield
        finally:
            if mine.done() and not mine.cancelled():
                self._held[client] -= 1
                self._free += 1
            else:
                self._leave(client, mine)
            self._held += Counter()  # drops clients that hold none
            self._grant()

    def _grant(self) -> None:
        """Give the free places to those who have waited longest among the clients that may have one."""
        while self._free and (client := self._next()) is not None:
            mine = self._waiting[client].popleft()
            waiting = self._waiting.pop(client)
            if waiting:
                self._waiting[client] = waiting  # behind the others
            self._held[client] += 1
            self._free -= 1
            mine.set_result(None)

    def _next(self) -> str | None:
        return next((client for client in self._waiting if self._held[client] < self._each), None)

    def _leave(self, client: str, mine: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(client)
        if waiting is not None and mine in waiting:
            waiting.remove(mine)
            if not waiting:
                del self._waiting[client]
