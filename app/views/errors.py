"""Errors as pages of the site, for people who came with a browser."""

from fastapi import Request
from fastapi.responses import HTMLResponse

from app.problems import Problem
from app.templating import page
from app.views.messages import LABELS


def error_page(request: Request, problem: Problem) -> HTMLResponse:
    """The site's own page for `problem`: what happened, what to do, where to go on."""
    response = page(request, "pages/error.html", problem.status, problem=problem, labels=LABELS)
    response.headers.update(problem.headers)
    return response
