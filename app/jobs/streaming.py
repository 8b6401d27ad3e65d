"""The event streams of probes (https://html.spec.whatwg.org/multipage/server-sent-events.html).

One look at the database, a few times a second while any stream is open, serves all of them: a stream that has nothing
to tell asks for nothing.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import ClassVar

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.db.database import Database, StorageUnavailableError
from app.db.models import Event
from app.jobs.probe_queries import UnknownProbeError, events_after, latest_events
from app.jobs.states import is_final
from app.security.tokens import revoked_among
from planner.errors import FieldProblem, FitproofError

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 0.25
_TOKENS_SECONDS = 2.0
# Proxies close a silent connection after a minute or less.
_SILENCE_SECONDS = 15.0
# A stream ends now and then so that none outlives a rolling restart; the reader resumes by itself.
LONGEST_SECONDS = 600.0
_RETRY_MILLISECONDS = 1000
# Each open stream holds a connection, and reads what is new beside the others.
MOST_STREAMS = 100


class TooManyStreamsError(FitproofError):
    """As many readers follow probes as this process can serve."""

    status = 429
    code = "too_many_streams"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "10"}


class Reader:
    """One open stream: what it follows, how far it has told, and the token it was opened with."""

    def __init__(self, probe_id: str, seq: int, token: str | None) -> None:
        self.probe_id, self.seq, self.token = probe_id, seq, token
        self.over = False
        self.news = asyncio.Event()
        self.news.set()

    def end(self) -> None:
        """Close the stream; a reader that may comes back and resumes where it was."""
        self.over = True
        self.news.set()


class Streams:
    """The event streams of one server process: a bounded number, ended when the server is asked to stop."""

    def __init__(self, database: Database, most: int = MOST_STREAMS) -> None:
        self._database = database
        self._most = most
        self._open: set[Reader] = set()
        self._looking: asyncio.Task[None] | None = None
        # Set when the server was asked to stop.
        self.stopping = False

    def follow(self, probe_id: str, seq: int, token: str | None = None) -> "EventStream":
        """Every event of a probe above `seq`, then new ones as they come. Counts from now on, not from its first event.

        Raises:
            TooManyStreamsError: at once, before the answer begins.
        """
        if len(self._open) >= self._most:
            fix = f"at most {self._most} at a time; close some, or ask GET /api/v1/probes/{probe_id} now and then"
            raise TooManyStreamsError("Too many event streams are open.", [FieldProblem("request", fix)])
        reader = Reader(probe_id, seq, token)
        self.add(reader)
        return EventStream(self, reader)

    def add(self, reader: Reader) -> None:
        """Look for what `reader` follows from now on."""
        self._open.add(reader)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    def close(self, reader: Reader) -> None:
        """Make room for another."""
        self._open.discard(reader)

    async def events(self, reader: Reader) -> AsyncIterator[str]:
        """What `reader` is sent, until its probe has ended and all is told."""
        ends_at = time.monotonic() + LONGEST_SECONDS
        yield f"retry: {_RETRY_MILLISECONDS}\n\n"
        while time.monotonic() < ends_at:
            try:
                async with asyncio.timeout(_SILENCE_SECONDS):
                    await reader.news.wait()
            except TimeoutError:
                yield ": still here\n\n"
                continue
            if reader.over:
                return
            reader.news.clear()
            try:
                state, events = await asyncio.to_thread(events_after, self._database, reader.probe_id, reader.seq)
            except (StorageUnavailableError, UnknownProbeError):
                # The reader connects again: it resumes where it was, or is told that the probe was removed.
                return
            for event in events:
                reader.seq = event.seq
                yield _frame(event)
            if events:
                reader.news.set()  # a page of them; there may be more
            elif is_final(state):
                return

    async def _look(self) -> None:
        """Wake the readers that have news, and end those that may read no more."""
        tokens_at = time.monotonic()
        try:
            while self._open and not self.stopping:
                await self._wake()
                if time.monotonic() - tokens_at > _TOKENS_SECONDS:
                    tokens_at = time.monotonic()
                    await self._end_revoked()
                await asyncio.sleep(_LOOK_SECONDS)
        except StorageUnavailableError as error:
            _LOG.info("event streams end, their readers come back: %s", error.title)
        finally:
            for reader in self._open:
                reader.end()

    async def _wake(self) -> None:
        followed = {reader.probe_id for reader in self._open}
        latest = await asyncio.to_thread(latest_events, self._database, followed)
        for reader in self._open:
            # A probe has an event from its first moment on; one that has none was removed.
            if reader.seq < latest.get(reader.probe_id, reader.seq + 1):
                reader.news.set()

    async def _end_revoked(self) -> None:
        tokens = {reader.token for reader in self._open if reader.token is not None}
        revoked = await asyncio.to_thread(revoked_among, self._database, tokens) if tokens else set()
        for reader in self._open:
            if reader.token in revoked:
                reader.end()


class EventStream(StreamingResponse):
    """The answer that carries one stream."""

    def __init__(self, streams: Streams, reader: Reader) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(streams.events(reader), media_type="text/event-stream", headers=headers)
        self._streams, self._reader = streams, reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it until either side ends it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.close(self._reader)


def _frame(event: Event) -> str:
    body = {**event.body, "attempt": event.attempt, "at": event.at}
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {json.dumps(body)}\n\n"
