"""The question and its answer: `/`, `/plan`, and the same as JSON or Markdown to keep."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from pydantic_core import to_json

from app.drawing.badge import Badge
from app.templating import fragment, page, render, wants_fragment
from app.views.messages import short_gpu_name
from app.views.plan_question import ask, ask_or_raise, pairs_of, question_context

router = APIRouter(include_in_schema=False)


@router.get("/")
async def home(request: Request) -> HTMLResponse:
    """The question, with one real plan already answered."""
    form, answer = await ask(request, pairs_of(request))
    return page(request, "pages/plan.html", example=True, **question_context(form, answer))


@router.get("/plan")
async def plan(request: Request) -> HTMLResponse:
    """The plan that the address spells out. A bad address gets its form back, each problem at its control."""
    form, answer = await ask(request, pairs_of(request))
    status = 200 if answer else 422
    context = question_context(form, answer)
    if wants_fragment(request):
        return fragment("partials/answer.html", status, **context)
    return page(request, "pages/plan.html", status, example=False, **context)


@router.get("/plan.json")
async def plan_json(request: Request) -> Response:
    """The API's document of the plan, as a file."""
    answer = await ask_or_raise(request, pairs_of(request))
    return _file(to_json(answer.plan.to_dict(), indent=2).decode(), "application/json", "plan.json")


@router.get("/plan.md")
async def plan_markdown(request: Request) -> Response:
    """The plan as a Markdown page, for an issue or a pull request."""
    answer = await ask_or_raise(request, pairs_of(request))
    return _file(render("pages/plan.md", answer=answer), "text/markdown", "plan.md")


@router.get("/badge.svg")
async def badge(request: Request) -> Response:
    """The verdict of the plan in the address as a picture; what cannot be planned is said in it, too."""
    _, answer = await ask(request, pairs_of(request))
    words = {"fits": "fits", "tight": "tight", "does_not_fit": "does not fit"}
    if answer:
        asked = f"{answer.model_name} on {short_gpu_name(answer.gpu.name)}"
        picture = Badge(asked, words[answer.plan.verdict], answer.plan.verdict)
    else:
        picture = Badge("fitproof", "no such plan", "")
    headers = {"Cache-Control": "public, max-age=3600"}
    return Response(render("pages/badge.svg", badge=picture), media_type="image/svg+xml", headers=headers)


def _file(body: str, media_type: str, name: str) -> Response:
    return Response(body, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'})
