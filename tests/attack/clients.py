"""Clients over bare connections: a library would take more of this machine than the server under attack."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.attack.requests import Sent

# The server gives a request up long before (app/compute/pool.py).
HANG_SECONDS = 45.0


@dataclass(slots=True)
class Tally:
    """What one kind of client saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    left: int = 0
    hung: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Requests sent."""
        return self.statuses.total() + self.left + len(self.hung)

    def quantile_ms(self, share: float) -> float:
        """Milliseconds that `share` of the answers were within."""
        ordered = sorted(self.seconds)
        return 1e3 * ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


class Client:
    """One keep-alive connection from one loopback address, opened again whenever it closes."""

    def __init__(self, port: int, address: str, tally: Tally) -> None:
        self._port, self._address, self._tally = port, address, tally
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, sent: Sent) -> None:
        """Send one request and count what comes of it."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(HANG_SECONDS):
                status = await self._exchange(sent)
        except TimeoutError:
            self._tally.hung.append(f"{sent.method} {sent.target[:500]} {sent.body[:500]!r}")
            self.close()
            return
        except (OSError, asyncio.IncompleteReadError):
            status = 0
            self.close()
        if sent.leaves:
            self._tally.left += 1
            return
        self._tally.seconds.append(time.perf_counter() - began)
        self._tally.statuses[status] += 1
        if status >= 500 and status != 503:
            self._tally.broken.append(f"{status} {sent.method} {sent.target[:2_000]} {sent.body[:2_000]!r}")

    def close(self) -> None:
        """Leave."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, sent: Sent) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(self._address, 0))
        reader, writer = self._streams
        writer.write(sent.raw())
        await writer.drain()
        if sent.leaves:
            await asyncio.sleep(0.01)
            self.close()
            return 0
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        if sent.method != "HEAD" and status not in (204, 304):
            await _skip_body(reader, fields)
        if fields.get(b"connection") == b"close":
            self.close()
        return status


async def _skip_body(reader: asyncio.StreamReader, fields: dict[bytes, bytes]) -> None:
    if b"content-length" in fields:
        await reader.readexactly(int(fields[b"content-length"]))
        return
    while (size := int(await reader.readline(), 16)) > 0:
        await reader.readexactly(size + 2)
    await reader.readline()


async def keep_sending(
    client: Client,
    draw: Callable[[random.Random], Sent],
    rng: random.Random,
    goes_on: Callable[[], bool],
    pause_seconds: float = 0.0,
) -> None:
    """Send one request after another."""
    while goes_on():
        await client.send(draw(rng))
        await asyncio.sleep(pause_seconds)
    client.close()
