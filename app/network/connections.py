"""Connections to the server: a bounded number, and no waiting for ever for what a client means to ask."""

import asyncio
import logging
import sys
import time
from typing import Any

try:
    from app.network.request_heads import BoundedHeads as Connection
except ImportError:  # httptools has no wheel for this Python
    from uvicorn.protocols.http.h11_impl import H11Protocol as Connection  # type: ignore[assignment]

_LOG = logging.getLogger(__name__)

# A browser sends its headers in one packet; ten seconds are a modem that lost a few.
HEADER_SECONDS = 10.0
# What the loop accepts in one turn, before it can count.
BACKLOG = 256
# A hundred event streams and as many requests as wait for a worker are a fraction of it.
MOST_CONNECTIONS = 1024
# Files beside connections: the database's, workers' pipes, logs, modules.
_OTHER_FILES = 256
_WANTED_FILES = MOST_CONNECTIONS + BACKLOG + _OTHER_FILES


class Doors:
    """Who came in and has not asked yet, longest first; one of them leaves where there is no more room."""

    def __init__(self, most: int | None = None, header_seconds: float = HEADER_SECONDS) -> None:
        self.most = most or most_connections()
        self.header_seconds = header_seconds
        self._waiting: dict[BoundedConnection, asyncio.TimerHandle] = {}

    def wait(self, connection: "BoundedConnection") -> None:
        """Give `connection` its time to ask; it does not get more by sending a little."""
        if connection not in self._waiting:
            timer = asyncio.get_running_loop().call_later(self.header_seconds, connection.turn_out)
            self._waiting[connection] = timer

    def asked(self, connection: "BoundedConnection") -> None:
        """Note that it waits no more."""
        timer = self._waiting.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def make_room(self) -> bool:
        """Close the connection that has waited longest; False if none waits."""
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return False
        oldest.turn_out()
        return True


class BoundedConnection(Connection):
    """uvicorn's connection, which by itself waits for headers as long as the client likes."""

    def __init__(self, doors: Doors, **given: Any) -> None:
        super().__init__(**given)
        self.doors = doors

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it in, in the place of one that has not asked yet where all are taken."""
        super().connection_made(transport)
        if len(self.connections) > self.doors.most and not self.doors.make_room():
            self.turn_out()
        else:
            self.doors.wait(self)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.doors.asked(self)
        super().connection_lost(exc)

    def turn_out(self) -> None:
        """End it without a word: it has not asked for anything."""
        self.doors.asked(self)
        self.connections.discard(self)
        self.transport.abort()

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.doors.asked(self)
        else:
            self.doors.wait(self)


def most_connections() -> int:
    """As many as this process may have files for, after asking the system for enough."""
    if sys.platform == "win32":
        return MOST_CONNECTIONS
    import resource  # noqa: PLC0415 (Windows has no such limits, and no such module)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _WANTED_FILES:
        soft = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(_WANTED_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(16, min(MOST_CONNECTIONS, soft - BACKLOG - _OTHER_FILES))


def quiet_accept_errors(loop: asyncio.AbstractEventLoop, every_seconds: float = 60.0) -> None:
    """Say once a minute that no connection can be accepted; asyncio writes a trace each time.

    uvloop reports none: libuv takes a connection that it has no file for, closes it and goes on (uv__emfile_trick).
    """
    said_at = -every_seconds

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal said_at
        if not str(context.get("message")).startswith("socket.accept()"):
            loop.default_exception_handler(context)
        elif time.monotonic() - said_at >= every_seconds:
            said_at = time.monotonic()
            _LOG.warning("no connection can be accepted just now: %s", context.get("exception"))

    loop.set_exception_handler(handle)
