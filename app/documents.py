"""JSON in and out of the API: read strictly, written without a second validation, documented in full."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json
from starlette.responses import Response

from app import strictjson
from app.problems import MEDIA_TYPE, ProblemDocument
from planner.errors import FieldProblem, FitproofError

_REFERENCE = "#/components/schemas/{model}"


class NotJsonError(FitproofError):
    """The body says that it is something else."""

    status = 415
    code = "unsupported_media_type"


async def read_json(request: Request) -> Any:
    """Decode the body of `request`.

    Demanding the content type also keeps other sites' forms out: a browser asks before it sends JSON elsewhere.

    Raises:
        NotJsonError: the content type is not JSON.
        InvalidJsonError: the body is not.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json" and not content_type.endswith("+json"):
        fix = f"send Content-Type: application/json (curl --json); got {content_type[:60] or 'none'}"
        raise NotJsonError("The body is not marked as JSON.", [FieldProblem("content-type", fix)])
    return strictjson.loads(await request.body())


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`document`, made of plain values, as JSON."""
    return Response(to_json(document), status, dict(headers or {}), "application/json")


def json_body(model: type[BaseModel], examples: Mapping[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its own body: `model`'s schema, and examples by name."""
    content = {
        "schema": {"$ref": _REFERENCE.format(model=model.__name__)},
        "examples": {name: {"value": value} for name, value in examples.items()},
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: the problems it may answer with."""
    problem = {"schema": {"$ref": _REFERENCE.format(model=ProblemDocument.__name__)}}
    return {status: {"description": "A problem", "content": {MEDIA_TYPE: problem}} for status in statuses}


def install_openapi(app: FastAPI, *bodies: type[BaseModel]) -> None:
    """Complete the OpenAPI document of `app` with the schemas that routes read and refuse by themselves."""
    models: tuple[type[BaseModel], ...] = (*bodies, ProblemDocument)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _, extra = models_json_schema([(model, "validation") for model in models], ref_template=_REFERENCE)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= extra["$defs"]
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
