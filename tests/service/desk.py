"""A dispatcher on a real SQLite file with a fake engine, moved step by step."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.db.database import Database, database_url
from app.db.migrate import migrate
from app.db.models import Probe
from app.jobs.dispatch.dispatcher import Dispatcher
from app.jobs.intake import Room, Sender, take_in
from app.jobs.order import Order, Settled
from app.jobs.probe_queries import events_after, get_probe
from app.jobs.states import is_final
from tests.service.fakes import fake_probe
from tests.service.fakes.fake_engine import GIB, FakeEngine
from tests.service.harness import document

MEASUREMENT = fake_probe.measurement({"training": {"max_length": 64}}, "dry-run", fake_probe.QUICK)


class Desk:
    """One replica. `run` drives its dispatcher until a condition holds."""

    def __init__(
        self,
        folder: Path,
        engine: FakeEngine | None = None,
        lease_seconds: float = 0.6,
        *,
        url: str | None = None,
    ) -> None:
        self.database = Database(database_url(url, folder))
        migrate(self.database)
        self.engine = engine or FakeEngine()
        self.dispatcher = Dispatcher(self.database, [self.engine], 100, lease_seconds)

    def queue(self, *, sender: Sender | None = None, limit: int = 100, **more: Any) -> str:
        instrument = more.pop("instrument", "dry-run")
        card = {"card": "rtx-4090", "card_bytes": 24 * GIB} | more.pop("card", {})
        order = Order.parse(document(**more))
        settled = Settled(order=order, instrument=instrument, params=None, deadline_seconds=60, prediction=None, **card)
        return take_in(self.database, settled, sender or Sender("local"), Room(limit)).id

    def get(self, probe: str) -> Probe:
        return get_probe(self.database, probe)

    def stages(self, probe: str) -> list[int]:
        _, events = events_after(self.database, probe, 0)
        return [event.body["index"] for event in events if event.kind == "progress"]

    def states(self, probe: str) -> list[str]:
        _, events = events_after(self.database, probe, 0, 10_000)
        return [event.body["state"] for event in events if event.kind == "state"]

    def run(self, until: Callable[[], bool], seconds: float = 8) -> None:
        async def drive() -> None:
            # An event belongs to the loop that first waits for it.
            self.engine.changed = asyncio.Event()
            running = asyncio.create_task(self.dispatcher.run())
            await wait(until, seconds)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        asyncio.run(drive())

    def run_to_end(self, *probes: str) -> None:
        self.run(lambda: all(is_final(self.get(probe).state) for probe in probes))


async def wait(until: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not until():
            await asyncio.sleep(0.01)


def printed(steps: int, *, measured: bool = True, **changes: Any) -> bytes:
    """What a probe prints: progress, noise, and at the end its measurement."""
    lines = [json.dumps({"stage": "step", "index": index, "seconds": 0.0}) for index in range(steps)]
    lines += ["noise from a library", '{"a": "library speaks JSON too"}']
    if measured:
        lines.append(json.dumps({**MEASUREMENT, "request": document_of(), **changes}))
    return "".join(f"{line}\n" for line in lines).encode()


def document_of() -> dict[str, Any]:
    return {key: value for key, value in document().items() if key != "instrument"}
