"""The page that says what can be trained on one card."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.forms.plan_address import query_of_values
from app.templating import page
from app.views.plan_question import EXAMPLE
from planner.answer.reach.recommend import Choice, recommend
from planner.catalog import resolve_gpu
from planner.catalog.gpu_rows import gpu_catalog
from planner.errors import FitproofError

router = APIRouter(include_in_schema=False)

_LONGEST_NAME = 200


@router.get("/recommend")
async def recommended(request: Request, gpu: str = EXAMPLE["gpu"]) -> HTMLResponse:
    """What can I train on this card? One row for each size of model."""
    cards = [card for card in gpu_catalog().cards.values() if card.gpu]
    try:
        found = request.app.state.planning.live_card(resolve_gpu(gpu[:_LONGEST_NAME]))
    except FitproofError as error:
        return page(request, "pages/recommend.html", cards=cards, named=gpu[:_LONGEST_NAME], error=error)
    choices = await asyncio.to_thread(recommend, found)
    rows = [(choice, _plan_of(choice)) for choice in choices]
    return page(request, "pages/recommend.html", cards=cards, named=found.id, gpu=found, rows=rows, error=None)


def _plan_of(choice: Choice) -> str | None:
    """The address of the choice's plan, where one card does."""
    if choice.plan is None or choice.outcome != "card":
        return None
    asked = choice.plan.request
    return query_of_values({
        "model": choice.model.id, "gpu": choice.plan.gpu.id, "method": asked.method,
        "max_length": str(choice.at_length),
    })  # fmt: skip
