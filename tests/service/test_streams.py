"""Event streams: how many, for how long, and what one costs that has nothing to tell."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import httpx
import pytest
from sqlalchemy import event

from app.jobs.streaming import Reader, Streams, TooManyStreamsError
from app.main import create_app
from app.security.tokens import create_token, revoke_token
from app.settings import Settings
from tests.app.serving import served
from tests.service.desk import Desk, wait
from tests.service.fakes.fake_engine import FakeEngine
from tests.service.forking import forked_template
from tests.service.harness import document, wait_until
from tests.service.test_probes_api import PROBES


def test_a_stream_counts_from_its_acceptance_on(tmp_path: Path) -> None:
    async def act() -> None:
        desk = Desk(tmp_path)
        probe, streams = desk.queue(), Streams(desk.database, most=2)
        for _ in range(2):
            streams.follow(probe, 0)
        with pytest.raises(TooManyStreamsError):
            streams.follow(probe, 0)

    asyncio.run(act())


def test_streams_without_news_ask_for_nothing_each(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    probe, statements = desk.queue(), list[str]()

    @event.listens_for(desk.database.engine, "before_cursor_execute")
    def _note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(" ".join(statement.split()))

    def read() -> int:
        return sum("FROM event WHERE" in text and "ORDER BY" in text for text in statements)

    def looked() -> int:
        return sum("max(event.seq)" in text for text in statements)

    async def act() -> None:
        streams = Streams(desk.database)
        readers = [Reader(probe, 0, None) for _ in range(10)]
        told = [asyncio.create_task(drain(streams.events(reader))) for reader in readers]
        for reader in readers:
            streams.add(reader)
        await wait(lambda: read() == 20 and all(reader.seq == 1 for reader in readers), 20)
        before = looked()
        await wait(lambda: looked() > before + 3, 20)
        assert read() == 20  # each read once, and once more to find nothing
        for task in told:
            task.cancel()
        await asyncio.gather(*told, return_exceptions=True)

    asyncio.run(act())


async def drain(events: AsyncIterator[str]) -> None:
    async with aclosing(events) as frames:  # type: ignore[type-var]  # a generator
        async for _ in frames:
            pass


def test_a_revoked_token_ends_the_streams_it_opened_and_no_others(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, hub_offline=True), [FakeEngine()], forked_template)
    with served(app) as client:
        client.timeout = httpx.Timeout(60)
        wait_until(lambda: bool(client.get("/api/v1/workers").json()["items"]), 10)
        database = app.state.service.database
        ours, others = (create_token(database, name) for name in ("ours", "others"))
        mine, theirs = ({"Authorization": f"Bearer {token.secret}"} for token in (ours, others))
        path = f"{PROBES}/{client.post(PROBES, json=document(), headers=mine).json()['id']}/events"
        with client.stream("GET", path, headers=mine) as first, client.stream("GET", path, headers=theirs) as second:
            lines, rest = first.iter_lines(), second.iter_lines()
            assert next(lines) == next(rest) == "retry: 1000"
            revoke_token(database, ours.id)
            assert any("queued" in line for line in list(lines))  # it has an end
            operator = {"Authorization": f"Bearer {app.state.local_key}"}
            client.delete(path.removesuffix("/events"), headers=operator)
            assert any("cancel" in line for line in rest)
