"""Paste a trainer's configuration, get its plan, and the same file back with the advice written in."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.datastructures import UploadFile

from app.hub.file_address import is_address
from app.imports.examples import EXAMPLES
from app.imports.planned import PlannedImport, plan_import
from app.imports.sources.loading import MOST_CHARACTERS
from app.templating import page
from app.views.answer import Answer
from app.views.plan_question import EXAMPLE, facts_of, origin
from planner.answer.plan import Plan
from planner.errors import FitproofError

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Pasted:
    """What the page sends. `address`: where the text came from, if it was not sent itself."""

    config: str = ""
    model: str = ""
    gpu: str = EXAMPLE["gpu"]
    address: str = ""


@router.get("/import")
async def empty(request: Request, example: str = "") -> HTMLResponse:
    """The place to paste, or one of the examples as if it had been pasted."""
    chosen = EXAMPLES.get(example)
    return await _answered(request, Pasted(chosen.text), example) if chosen else _show(request, Pasted())


@router.post("/import")
async def pasted(request: Request) -> HTMLResponse:
    """What the pasted or uploaded text became."""
    return await _answered(request, await _read(request))


async def _answered(request: Request, sent: Pasted, example: str = "") -> HTMLResponse:
    try:
        if is_address(sent.config):
            text = facts_of(request).file(sent.config.strip())
            sent = replace(sent, config=text, address=sent.config.strip())
        planning = request.app.state.planning
        result = await plan_import(planning, sent.config, model=sent.model, gpu=sent.gpu)
    except FitproofError as error:
        return _show(request, sent, error=_sentence(error))
    return _show(request, sent, result, example=example)


async def _read(request: Request) -> Pasted:
    """The form's fields; an uploaded file stands for the text."""
    async with request.form(max_files=1, max_fields=8) as form:
        texts = {name: value for name, value in form.items() if isinstance(value, str)}
        config, upload = texts.get("config", ""), form.get("file")
        if isinstance(upload, UploadFile) and upload.filename:
            config = (await upload.read(MOST_CHARACTERS + 1)).decode("utf-8", errors="replace")
    return Pasted(config, texts.get("model", "").strip(), texts.get("gpu", "").strip())


def _sentence(error: FitproofError) -> str:
    """What stands in the way. Problems of the text and of its address are ends of sentences about them."""
    if not error.problems:
        return error.title
    said = error.problems[0]
    return f"The {'address' if said.field == 'url' else 'text'} {said.message}"


def _show(
    request: Request, sent: Pasted, result: PlannedImport | None = None, error: str = "", example: str = ""
) -> HTMLResponse:
    answer = _answer(request, result.plan) if result and result.plan else None
    bad = bool(error) or (result is not None and answer is None)
    context: dict[str, Any] = {"sent": sent, "result": result, "error": error, "answer": answer}
    context |= {"examples": EXAMPLES, "example": example, "edited": _marked(sent, result)}
    return page(request, "pages/import.html", 422 if bad else 200, query=answer.query if answer else "", **context)


def _answer(request: Request, plan: Plan) -> Answer:
    beside = tuple(item for item in plan.not_planned if item.key != "model" or plan.model.decoder is not None)
    return Answer(
        plan=plan, request=plan.request, model=plan.model, gpu=plan.gpu, origin=origin(request), imported_without=beside
    )


def _marked(sent: Pasted, result: PlannedImport | None) -> list[tuple[str, bool]]:
    """The lines of the edited file, and whether each differs from what was sent."""
    if result is None or result.edited is None:
        return []
    before = Counter(sent.config.splitlines())
    lines = []
    for line in result.edited.text.splitlines():
        lines.append((line, before[line] == 0))
        before[line] -= 1
    return lines
