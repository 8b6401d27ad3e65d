"""The event stream of one probe (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import ClassVar

from app.db.database import Database, StorageUnavailableError
from app.db.models import Event
from app.jobs.probe_queries import UnknownProbeError, events_after
from app.jobs.states import is_final
from planner.errors import FieldProblem, FitproofError

_LOOK_SECONDS = 0.25
# Proxies close a silent connection after a minute or less.
_SILENCE_SECONDS = 15.0
# A stream ends now and then so that none outlives a rolling restart; the reader resumes by itself.
LONGEST_SECONDS = 600.0
_RETRY_MILLISECONDS = 1000
# Each open stream asks the database a few times a second, beside the dispatcher.
MOST_STREAMS = 100


class TooManyStreamsError(FitproofError):
    """As many readers follow probes as this process can serve."""

    status = 429
    code = "too_many_streams"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "10"}


class Streams:
    """The event streams of one server process: a bounded number, ended when the server is asked to stop."""

    def __init__(self, database: Database, most: int = MOST_STREAMS) -> None:
        self._database = database
        self._most = most
        self._open = 0
        # Set when the server was asked to stop.
        self.stopping = False

    def follow(self, probe_id: str, seq: int) -> AsyncIterator[str]:
        """Every event of a probe above `seq`, then new ones as they come.

        Raises:
            TooManyStreamsError: at once, before the first event.
        """
        if self._open >= self._most:
            fix = f"at most {self._most} at a time; close some, or ask GET /api/v1/probes/{probe_id} now and then"
            raise TooManyStreamsError("Too many event streams are open.", [FieldProblem("request", fix)])
        return self._follow(probe_id, seq)

    async def _follow(self, probe_id: str, seq: int) -> AsyncIterator[str]:
        self._open += 1
        try:
            async for frame in stream_events(self._database, probe_id, seq, lambda: self.stopping):
                yield frame
        finally:
            self._open -= 1


async def stream_events(
    database: Database, probe_id: str, seq: int, stopping: Callable[[], bool]
) -> AsyncIterator[str]:
    """Every event above `seq`, then new ones as they come, until the probe has ended and all is told."""
    started = spoken = time.monotonic()
    yield f"retry: {_RETRY_MILLISECONDS}\n\n"
    while time.monotonic() - started < LONGEST_SECONDS and not stopping():
        try:
            state, events = await asyncio.to_thread(events_after, database, probe_id, seq)
        except (StorageUnavailableError, UnknownProbeError):
            # The reader connects again: it resumes where it was, or is told that the probe was removed.
            return
        for event in events:
            seq, spoken = event.seq, time.monotonic()
            yield _frame(event)
        if events:
            continue
        if is_final(state):
            return
        if time.monotonic() - spoken > _SILENCE_SECONDS:
            spoken = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(_LOOK_SECONDS)


def _frame(event: Event) -> str:
    body = {**event.body, "attempt": event.attempt, "at": event.at}
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {json.dumps(body)}\n\n"
