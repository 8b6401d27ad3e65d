"""Deletes finished work: an attempt's files after minutes, its probe once enough younger ones have ended.

Only the holder of the dispatcher's lease does this, and only to probes that have ended. Measurements are kept, as
evidence, in a table of their own.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

from app.db.database import StorageUnavailableError
from app.db.models import Probe
from app.engines.base import Engine, EngineDownError
from app.jobs.dispatch.lease import LeaseLostError
from app.jobs.dispatch.probe_store import ProbeStore
from app.jobs.probe_events import StaleProbeError

_LOG = logging.getLogger(__name__)
# Long enough to look at a finished attempt's files, short enough that disks and Ray's job table stay small.
FILES_KEPT_SECONDS = 600.0
# A client that repeats an order under its Idempotency-Key does so within a day, the life such keys have elsewhere
# (https://docs.stripe.com/api/idempotent_requests). The key stands as long as the probe's row does.
PROBES_KEPT_SECONDS = 86_400.0
_SWEEP_SECONDS = 60.0


class Housekeeping:
    """Deletes for one holder of the lease. `probes_kept` finished probes are kept besides those of the last day."""

    def __init__(self, store: ProbeStore, engines: Sequence[Engine], probes_kept: int) -> None:
        self._store = store
        self._engines = engines
        self._probes_kept = probes_kept

    async def run(self) -> None:
        """Clean up every minute until cancelled, or until the lease is lost."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            try:
                await self.clean_up(time.time())
            except StorageUnavailableError as error:
                _LOG.info("finished probes could not be deleted yet: %s", error)
            except LeaseLostError:
                return

    async def clean_up(self, now: float) -> None:
        """Delete what is due at `now`, seconds since the epoch.

        Raises:
            StorageUnavailableError: the database cannot be used; the rest waits.
            LeaseLostError: another replica cleans up from now on.
        """
        after = ("", 0.0)
        while page := await asyncio.to_thread(self._store.finished_before, now - FILES_KEPT_SECONDS, after):
            for probe in page:
                await self._forget(probe, now)
            after = (page[-1].id, page[-1].finished_at or 0.0)
        for engine in self._engines:
            await self._clear_leftovers(engine)
        removed = 0
        while count := await asyncio.to_thread(self._store.prune, now - PROBES_KEPT_SECONDS, self._probes_kept):
            removed += count
        if removed:
            _LOG.info("removed the oldest finished probes", extra={"removed": removed, "kept": self._probes_kept})

    async def _clear_leftovers(self, engine: Engine) -> None:
        """Delete files of probes that a replica on another host finished, or that the database has lost."""
        leftovers = {ref: ref.rpartition("-")[0] for ref in await engine.leftovers()}
        needed = await asyncio.to_thread(self._store.with_files_needed, sorted(set(leftovers.values())))
        for ref, probe_id in leftovers.items():
            if probe_id not in needed:
                await engine.forget(ref)

    async def _forget(self, probe: Probe, now: float) -> None:
        """Remove what engines keep of a probe. An engine out of reach is asked again for a day, then given up."""
        try:
            for engine in self._engines:
                # One attempt ran where the row says; those before it may have run anywhere.
                if engine.name == probe.engine or probe.attempt > 1:
                    for attempt in range(1, probe.attempt + 1):
                        await engine.forget(f"{probe.id}-{attempt}")
        except EngineDownError as error:
            if (probe.finished_at or now) > now - PROBES_KEPT_SECONDS:
                return
            _LOG.warning("what an engine keeps of a finished probe stays there: %s", error, extra={"probe": probe.id})
        try:
            await asyncio.to_thread(self._store.forget, probe)
        except StaleProbeError:
            return
