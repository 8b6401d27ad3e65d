"""The probe service of one server process, put together: database, engines, dispatcher, and what routes call."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.compute.questions import SUBJECT
from app.db.database import Database, StorageUnavailableError, database_url
from app.db.migrate import migrate, migrate_elsewhere
from app.db.models import Probe
from app.engines.base import Engine
from app.engines.local import WARM_PROGRAM, LocalEngine, LocalSetup
from app.jobs.admission import Limits, settle_order
from app.jobs.dispatch.dispatcher import Dispatcher
from app.jobs.dispatch.roster import seen_workers
from app.jobs.dispatch.scheduling import card_named
from app.jobs.intake import Room, Sender, find_repeat, take_in
from app.jobs.live import REFRESH_SECONDS, Ask, LiveCards
from app.jobs.order import Order
from app.jobs.probe_queries import ask_to_cancel
from app.jobs.streaming import Streams
from app.jobs.subject import Subject
from app.planning import Planning
from app.security.private_files import keep_private
from app.security.weights import check_weights
from app.settings import Settings
from app.threads import AnsweringExecutor

_LOG = logging.getLogger(__name__)
# Fewer than the database's connections (app/db/database.py), so that no thread waits for one.
_THREADS = 48


class ProbeService:
    """What the probe routes and pages call. `engines` may be given, so that tests bring their own programs."""

    def __init__(
        self, settings: Settings, planning: Planning, ask: Ask, engines: Sequence[Engine] | None = None
    ) -> None:
        self.settings = settings
        self._planning, self._ask = planning, ask
        self.database = open_database(settings)
        self.streams = Streams(self.database)
        self.engines = tuple(engines if engines is not None else standard_engines(settings))
        self.cards = LiveCards(self.database, ask)
        self.dispatcher = Dispatcher(self.database, self.engines, settings.probes_kept)

    @property
    def leads(self) -> bool:
        """Whether this replica dispatches."""
        return self.dispatcher.leads

    async def order(self, data: object, sender: Sender) -> Probe:
        """Check, settle and queue what a caller asks for.

        Raises:
            FitproofError: the document, its names, its weights or the attached workers do not allow it; queue full.
        """
        order = await asyncio.to_thread(Order.parse, data, self._planning.read)
        if (known := await asyncio.to_thread(find_repeat, self.database, sender, order.body_sha256)) is not None:
            return known
        check_weights(order.switches.weights, order.request, self.settings.allowed_weights)
        workers = [seen.worker for seen in await asyncio.to_thread(seen_workers, self.database)]
        limits = Limits(self.settings.probe_deadline_seconds, self.settings.cpu_params)
        subject = Subject(**await self._ask(SUBJECT, order.document, sender.owner))
        settled = settle_order(order, subject, workers, limits)
        room = Room(self.settings.queue_limit, None if sender.is_operator else self.settings.queue_limit_each)
        probe = await asyncio.to_thread(take_in, self.database, settled, sender, room)
        self.dispatcher.wake()
        return probe

    async def cancel(self, probe_id: str, owner: str | None) -> Probe:
        """Ask for a probe's end; only `owner`'s own where one is given.

        Raises:
            UnknownProbeError: there is no such probe.
            NotYoursError: it belongs to another owner.
        """
        probe = await asyncio.to_thread(ask_to_cancel, self.database, probe_id, owner)
        self.dispatcher.wake()
        return probe

    async def close(self) -> None:
        """Give back engines and connections."""
        for engine in self.engines:
            await engine.close()
        self.database.close()


def prepare_database(settings: Settings) -> None:
    """Open and migrate once before serving, so that a database that cannot be used is one clear sentence.

    Raises:
        StorageUnavailableError: says what is wrong.
    """
    database = open_database(settings)
    try:
        migrate_elsewhere(database)
        database.check()
    finally:
        database.close()


def open_database(settings: Settings) -> Database:
    """Open the configured database; nothing is written yet. The data folder is its owner's alone.

    Raises:
        StorageUnavailableError: the folder cannot be made, or the setting is no database's address.
    """
    try:
        keep_private(settings.data_dir, with_database=settings.database_url is None)
    except OSError as error:
        title = f"The data folder {settings.data_dir} cannot be made ({error.strerror}); set FITPROOF_DATA_DIR"
        raise StorageUnavailableError(title) from error
    url = settings.database_url.get_secret_value() if settings.database_url else None
    return Database(database_url(url, settings.data_dir))


def standard_engines(settings: Settings) -> list[Engine]:
    """This machine, and the Ray cluster where one is named."""
    memory_bytes = settings.probe_memory_bytes or _half_of_this_machine()
    local = LocalSetup(card_of=card_named, cpu_slots=settings.cpu_slots, memory_bytes=memory_bytes, warm=WARM_PROGRAM)
    engines: list[Engine] = [LocalEngine(settings.data_dir / "probes", local)]
    if settings.ray_url is not None:
        from app.engines.ray import RayEngine, RaySetup  # noqa: PLC0415 (it brings httpx, a tenth of a second)

        setup = RaySetup(
            url=settings.ray_url,
            token=settings.ray_token.get_secret_value() if settings.ray_token else None,
            program=(settings.ray_python, "-m", "planner.probe"),
            cpu_slots=settings.ray_cpu_slots,
            card_of=card_named,
        )
        engines.append(RayEngine(setup))
    return engines


@asynccontextmanager
async def lifespan(app: FastAPI, engines: Sequence[Engine] | None = None) -> AsyncIterator[None]:
    """Open the service for as long as the server runs, as `app.state.service`; then stop in order.

    Raises:
        StorageUnavailableError: the database cannot be opened.
    """
    # Python's default is a handful of threads on a small machine; requests that wait for a locked database must not
    # take the ones that the dispatcher renews its lease with.
    asyncio.get_running_loop().set_default_executor(AnsweringExecutor(_THREADS, "fitproof"))
    service = ProbeService(app.state.settings, app.state.planning, app.state.answers.ask, engines)
    await asyncio.to_thread(migrate, service.database)
    app.state.service = service
    running = [asyncio.create_task(work) for work in (service.dispatcher.run(), _keep_fresh(service.cards))]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await service.close()


async def _keep_fresh(cards: LiveCards) -> None:
    while True:
        try:
            await cards.refresh()
        except StorageUnavailableError as error:
            _LOG.info("the readings of this installation's cards are not up to date: %s", error.title)
        await asyncio.sleep(REFRESH_SECONDS)


def _half_of_this_machine() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None
