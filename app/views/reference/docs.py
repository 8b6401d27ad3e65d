"""The API for people: what to send, what comes back, in examples that run against this server."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.templating import page
from app.views.plan_question import origin

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """How to ask from a program."""
    return page(request, "pages/docs.html", origin=origin(request))
