"""What the workers' template learns before anybody asks."""

import asyncio
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from app.compute.answering import answering_app
from app.compute.processes import Template
from app.compute.template import lessons
from app.views.guide import TODAY
from planner.model.model import resolve_model
from planner.units import MIB


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


@pytest.mark.parametrize("learns", [False, True])
def test_a_template_learns_where_it_is_told_to_and_is_idle_elsewhere(learns: bool) -> None:
    """What it learned stays in its memory. The lessons keep whoever wants a worker waiting."""

    async def grown_bytes() -> int:
        template = await Template.started(learns=learns)
        try:
            before_bytes = template.share_bytes()
            for _ in range(600 if learns else 20):
                await asyncio.sleep(0.1)
                if (more_bytes := template.share_bytes() - before_bytes) > 4 * MIB:
                    break
            return more_bytes
        finally:
            template.close()

    assert (asyncio.run(grown_bytes()) > 4 * MIB) == learns
