"""GET /models and /gpus: what the catalogues know, and from where."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from app.catalog import gpu_list, model_list
from app.documents import answers, json_response
from app.schemas.catalog import GpuList, ModelList

router = APIRouter(tags=["catalogue"])


class Search(BaseModel):
    """What to look for."""

    model_config = ConfigDict(extra="forbid")

    q: str = Field("", max_length=200, description='Words of a name: "llama 3 8b", "4090", "24gb". Empty: everything.')
    limit: int = Field(50, ge=1, le=1000, description="Most items to return.")


@router.get("/models", response_model=None, responses={200: {"model": ModelList}, **answers(422)})
async def models(search: Annotated[Search, Query()]) -> Response:
    """Models that match, best first, each with its facts and their sources."""
    return json_response(model_list(search.q, search.limit))


@router.get("/gpus", response_model=None, responses={200: {"model": GpuList}, **answers(422)})
async def gpus(search: Annotated[Search, Query()]) -> Response:
    """Cards that match, best first. `usable_bytes` is what the driver gives torch, never the nominal size."""
    return json_response(gpu_list(search.q, search.limit))
