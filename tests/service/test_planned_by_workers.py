"""The server itself plans nothing: neither an order, nor what a measured run is held to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.compute.pool import Pool
from app.compute.refusals import BusyError
from app.main import create_app
from app.settings import Settings
from tests.app.serving import served
from tests.service.engines.test_live_cards import EVIDENCE, JSON_LINES, plan, record, width
from tests.service.fakes.fake_engine import FakeEngine
from tests.service.forking import forked_template
from tests.service.harness import document, wait_until
from tests.service.test_probes_api import PROBES


class BusyPool(Pool):
    """Has no time for anybody."""

    async def answer(self, *_: Any, **__: Any) -> tuple[Any, ...]:
        raise BusyError("The server is busy.")


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    settings = Settings(data_dir=tmp_path, hub_offline=True, local_access=True)
    return create_app(settings, [FakeEngine()], forked_template)


@pytest.fixture
def client(app: FastAPI) -> Iterator[httpx.Client]:
    with served(app) as client:
        wait_until(lambda: bool(client.get("/api/v1/workers").json()["items"]), 10)
        yield client


def test_an_order_that_no_worker_has_time_to_plan_is_turned_away_and_not_kept(
    app: FastAPI, client: httpx.Client
) -> None:
    app.state.answers.pool = BusyPool(1)
    refused = client.post(PROBES, json=document())
    assert (refused.status_code, refused.json()["code"]) == (503, "busy")
    assert int(refused.headers["retry-after"]) > 0
    app.state.answers.pool = app.state.pool
    assert client.get(PROBES).json()["items"] == []
    assert client.post(PROBES, json=document()).status_code == 202


def test_measured_runs_are_taken_up_once_the_workers_have_time(app: FastAPI, client: httpx.Client) -> None:
    before = plan(client)["required_bytes"]
    app.state.answers.pool = BusyPool(1)
    assert client.post(EVIDENCE, content=record(), headers=JSON_LINES).json()["added"] == 1
    app.state.answers.pool = app.state.pool
    wait_until(lambda: width(plan(client)["required_bytes"]) < width(before), 30)
