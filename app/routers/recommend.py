"""GET /recommend: what can be trained on this card?"""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.documents import answers, json_response
from app.schemas.recommend import RecommendDocument
from planner.answer.reach.recommend import document_of
from planner.catalog import resolve_gpu
from planner.request.base import Name

router = APIRouter(tags=["plans"])


class Asked(BaseModel):
    """Which card."""

    model_config = ConfigDict(extra="forbid")

    gpu: Name = Field(description='A catalogue name: "rtx-3060-12gb", "4090".')


@router.get("/recommend", response_model=None, responses={200: {"model": RecommendDocument}, **answers(404, 422)})
async def recommend(request: Request, asked: Annotated[Asked, Query()]) -> Response:
    """For each size of model the best method that fits, its longest length, and its largest batch."""
    gpu = request.app.state.planning.live_card(resolve_gpu(asked.gpu))
    return json_response(await asyncio.to_thread(document_of, gpu))
