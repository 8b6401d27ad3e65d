"""Every error leaves as application/problem+json (RFC 9457): all bad fields at once, the fix, never a stack trace."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from app.logs import current_request_id
from planner.errors import FieldProblem, FitproofError
from planner.request.validation.control_characters import storable
from planner.request.validation.messages import field_problems

MEDIA_TYPE = "application/problem+json"

# What a browser is shown instead of JSON outside /api: the site's own page, given here as a plain function.
ErrorPage = Callable[[Request, "Problem"], Response]

_SENTENCES = {
    404: "There is nothing at this address.",
    405: "This address does not take this method; the Allow header lists those it takes.",
    500: "Something broke here. The request id finds it in the server's log.",
}


class ErrorItem(BaseModel):
    """One bad field."""

    field: str = Field(description="Dotted path, as the caller wrote it.", examples=["training.max_length"])
    message: str = Field(description="What is wrong, and the fix.", examples=["must be at least 1; got -1"])


class ProblemDocument(BaseModel):
    """The schema of a problem, for the OpenAPI document."""

    type: str = Field(examples=["urn:fitproof:problem:invalid_request"])
    title: str = Field(examples=["The request has fields that cannot be used."])
    status: int = Field(examples=[422])
    code: str = Field(examples=["invalid_request"])
    errors: list[ErrorItem]
    request_id: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. `code` is for programs, `title` for people."""

    status: int
    code: str
    title: str
    errors: Sequence[FieldProblem] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: FitproofError) -> "Problem":
        """What the core says, in HTTP."""
        return cls(error.status, error.code, error.title, error.problems, getattr(error, "headers", {}))

    @classmethod
    def of_status(cls, status: int, headers: Mapping[str, str] | None = None) -> "Problem":
        """A bare HTTP status, such as for an unknown path."""
        phrase = HTTPStatus(status).phrase
        return cls(status, phrase.lower().replace(" ", "_"), _SENTENCES.get(status, f"{phrase}."), (), headers or {})

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "type": f"urn:fitproof:problem:{self.code}",
            "title": storable(self.title),
            "status": self.status,
            "code": self.code,
            # A caller's text may be quoted here, lone surrogates in it: they must not break the answer that complains.
            "errors": [{"field": storable(error.field), "message": storable(error.message)} for error in self.errors],
            "request_id": current_request_id(),
        }

    def response(self) -> Response:
        """The JSON document as a response."""
        return Response(to_json(self.document()), self.status, dict(self.headers), MEDIA_TYPE)


def install(app: FastAPI, page: ErrorPage | None = None) -> None:
    """Answer every error of `app` with a problem; outside /api, with `page` where a browser asks."""

    def answer(request: Request, problem: Problem) -> Response:
        return answer_for(request.scope, problem, page)

    async def on_fitproof(request: Request, error: Exception) -> Response:
        assert isinstance(error, FitproofError)  # noqa: S101 (Starlette's handler type is wider than its registration)
        return answer(request, Problem.of(error))

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 (as above)
        return answer(request, of_parameters(error))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 (as above)
        return answer(request, Problem.of_status(error.status_code, error.headers))

    app.add_exception_handler(FitproofError, on_fitproof)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)


def answer_for(scope: Scope, problem: Problem, page: ErrorPage | None) -> Response:
    """`problem` as `page` where a browser asks outside /api, else as a document."""
    request = Request(scope)
    if page is not None and not scope["path"].startswith("/api/") and "text/html" in request.headers.get("accept", ""):
        return page(request, problem)
    return problem.response()


def of_parameters(error: RequestValidationError) -> Problem:
    """FastAPI's complaint about path and query parameters, in our words."""
    details = [{**detail, "loc": detail["loc"][1:]} for detail in error.errors()]
    title = "The address has parameters that cannot be used."
    return Problem(422, "invalid_parameters", title, field_problems(details))
