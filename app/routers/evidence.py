"""/evidence: measurements of this installation out and others' in, as JSON lines."""

import asyncio
import contextlib
from itertools import chain

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from app.documents import answers, json_response
from app.jobs.evidence import export_lines, import_lines
from app.schemas.probe import ImportAnswer
from app.security.access import admit
from planner.errors import FieldProblem, FitproofError

router = APIRouter(tags=["evidence"])

MEDIA_TYPE = "application/x-ndjson"
_LOCKED = (401, 403, 503)
# Each run is planned once; hundreds of them take longer than anybody waits for an answer.
_TAKEN_UP_SECONDS = 10.0


class NotJsonLinesError(FitproofError):
    """The body is not marked, or not readable, as JSON lines."""

    status = 415
    code = "unsupported_media_type"


@router.get(
    "/evidence",
    response_model=None,
    responses={200: {"description": "One Measurement on each line", "content": {MEDIA_TYPE: {}}}, **answers(*_LOCKED)},
)
async def export_evidence(request: Request) -> Response:
    """Every measurement kept here, oldest first."""
    await admit(request)
    headers = {"Content-Disposition": 'attachment; filename="fitproof-evidence.jsonl"'}
    lines = export_lines(request.app.state.service.database)
    # Asked for before the answer begins, so that a database that is down is a 503 and no half answer.
    first = await asyncio.to_thread(next, lines, "")
    return StreamingResponse(chain([first], lines), media_type=MEDIA_TYPE, headers=headers)


@router.post(
    "/evidence",
    response_model=None,
    responses={200: {"model": ImportAnswer}, **answers(413, 415, 422, *_LOCKED)},
    openapi_extra={"requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}},
)
async def import_evidence(request: Request) -> Response:
    """Add measurements that others share. All or none are added; those already here are counted."""
    caller = await admit(request)
    text = _text(request.headers.get("content-type", ""), await request.body())
    service = request.app.state.service
    result = await asyncio.to_thread(import_lines, service.database, text, f"import:{caller.owner}")
    # So that the next plan stands on them, where they are few.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_TAKEN_UP_SECONDS):
            await service.cards.refresh()
    return json_response({"added": result.added, "known": result.known})


def _text(content_type: str, body: bytes) -> str:
    # Demanding the type keeps other sites' forms out: a browser asks before it sends this type elsewhere.
    if content_type.partition(";")[0].strip().lower() != MEDIA_TYPE:
        problem = FieldProblem("content-type", f"send Content-Type: {MEDIA_TYPE}, one Measurement on each line")
        raise NotJsonLinesError("The body is not marked as JSON lines.", [problem])
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        problem = FieldProblem("request", f"is not UTF-8 from byte {error.start} on; encode it as UTF-8")
        raise NotJsonLinesError("The body cannot be read.", [problem]) from None
