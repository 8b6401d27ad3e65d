"""POST /imports: a trainer's own configuration as a plan, and its advice in the same file."""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.documents import answers, json_body, json_response, read_json
from app.hub.file_address import is_address
from app.imports.planned import plan_import
from app.schemas.plan import PlanDocument
from planner.errors import InvalidRequestError
from planner.request.schema import Request as PlanRequest
from planner.request.validation.messages import field_problems

router = APIRouter(tags=["imports"])


class ImportRequest(BaseModel):
    """A configuration as text, and what it does not say."""

    model_config = ConfigDict(extra="forbid", strict=True)

    config: str = Field(
        min_length=1,
        description="The file's text, or its address on GitHub or the hub (https), which the server fetches: "
        "Axolotl or LLaMA-Factory YAML, TRL or TrainingArguments JSON or YAML, the chapter's dictionary, "
        "or a model's config.json.",
    )
    gpu: str = Field("", max_length=300, description="Card to plan for; trainers' files name none.")
    model: str = Field("", max_length=300, description="Model, where the file names none.")


class ImportItem(BaseModel):
    """A key that became part of the plan, or a value that the trainer's default put there."""

    key: str | None = None
    value: Any = None
    field: str
    reason: str | None = None


class IgnoredItem(BaseModel):
    """A key that is not part of the plan; `matters` where it does move memory."""

    key: str
    reason: str
    matters: bool


class ProblemItem(BaseModel):
    """Something wrong, under the file's own name for it."""

    field: str
    message: str


class EditedItem(BaseModel):
    """The file with one advised change made, comments kept; `left` has no key in this trainer's files."""

    change: dict[str, Any]
    text: str
    left: list[str]
    verdict: str


class ImportDocument(BaseModel):
    """What became of a configuration."""

    trainer: str
    request: PlanRequest | None
    recognised: list[ImportItem]
    assumed: list[ImportItem]
    ignored: list[IgnoredItem]
    contradictions: list[ProblemItem]
    problems: list[ProblemItem]
    plan: PlanDocument | None
    edited: EditedItem | None


_EXAMPLES = {
    "axolotl": {
        "gpu": "rtx-4090",
        "config": "base_model: meta-llama/Llama-3.1-8B\nadapter: qlora\nload_in_4bit: true\nsequence_len: 4096\n"
        "micro_batch_size: 2\nlora_target_linear: true\nlora_r: 32\nlora_alpha: 16\n",
    }
}


@router.post(
    "/imports",
    response_model=None,
    responses={200: {"model": ImportDocument}, **answers(400, 404, 413, 415, 422, 424)},
    openapi_extra=json_body(ImportRequest, _EXAMPLES),
)
async def create_import(request: Request) -> Response:
    """Understand a configuration and plan it. Nothing is stored, nothing in it is executed or opened."""
    try:
        asked = ImportRequest.model_validate(await read_json(request))
    except ValidationError as error:
        problems = field_problems(error.errors(include_url=False))
        raise InvalidRequestError("The request has fields that cannot be used.", problems) from None
    text = request.app.state.facts.file(asked.config) if is_address(asked.config) else asked.config
    result = await plan_import(request.app.state.planning, text, gpu=asked.gpu, model=asked.model)
    return json_response(result.to_dict())
