"""The event stream of one probe (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable

from app.db.database import Database, StorageUnavailableError
from app.db.models import Event
from app.jobs.shelf import UnknownProbeError, events_after
from app.jobs.states import is_final

_LOOK_SECONDS = 0.25
# Proxies close a silent connection after a minute or less.
_SILENCE_SECONDS = 15.0
# A stream ends now and then so that none outlives a rolling restart; the reader resumes by itself.
LONGEST_SECONDS = 600.0
_RETRY_MILLISECONDS = 1000


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
