"""What the workers' template learns before anybody asks."""

import asyncio
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from app.compute.answering import answering_app
from app.compute.template import lessons
from app.views.guide import TODAY
from planner.model.model import resolve_model


@pytest.mark.parametrize("address", list(lessons()))
def test_every_lesson_is_a_question_that_a_visitor_may_ask(address: str) -> None:
    async def status() -> int:
        transport = httpx.ASGITransport(answering_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://template") as client:
            return (await client.get(address)).status_code

    assert asyncio.run(status()) == 200


def test_every_build_that_the_guide_names_is_learned_once() -> None:
    learned = [parse_qs(urlsplit(address).query)["model"][0] for address in lessons()]
    builds = [resolve_model(model).known_decoder().structure for model in dict.fromkeys(learned)]
    assert len(builds) == len(set(builds))
    assert {resolve_model(model).known_decoder().structure for model in TODAY} <= set(builds)
