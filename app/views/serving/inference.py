"""The page that says how much context, for how many users, a card holds."""

import asyncio
from typing import Any, get_args

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.forms.plan_address import query_of_values
from app.serving import serve
from app.templating import page
from app.views.serving.answer import COLOURS, ServingAnswer
from app.views.serving.question import CONTROLS, document_of, values_in
from planner.errors import FieldProblem, FitproofError
from planner.serving.request import Gguf

router = APIRouter(include_in_schema=False)

# The document's own names of what two controls say.
_CONTROL_OF = {"quantization": "weights", "lora": "adapter_rank"}


@router.get("/inference")
async def inference(request: Request) -> HTMLResponse:
    """What context fits? How many users? The address is the question."""
    values = values_in(dict(request.query_params))
    labels = {name: item.label for name, item in CONTROLS.items()}
    shown: dict[str, Any] = {"values": values, "labels": labels, "colours": COLOURS}
    shown["query"] = query_of_values({name: values[name] for name in ("model", "gpu")})
    shown["files"] = [(kind, kind) for kind in get_args(Gguf)]
    try:
        found = await serve(request.app.state.planning, *document_of(values))
    except FitproofError as error:
        problems = error.problems or (FieldProblem("model", error.title),)
        errors = {control_of(problem.field): problem.message for problem in problems}
        return page(request, "pages/inference.html", 422, answer=None, errors=errors, **shown)
    answer = ServingAnswer(found)
    return await asyncio.to_thread(lambda: page(request, "pages/inference.html", answer=answer, errors={}, **shown))


def control_of(field: str) -> str:
    """The control that holds a field of the document."""
    first = field.partition(".")[0]
    name = _CONTROL_OF.get(first, first)
    return name if name in CONTROLS else "engine"
