"""/probes: queue one, watch it, end it."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app import examples
from app.documents import answers, json_body, json_response, read_json
from app.jobs.intake import Sender
from app.jobs.order import ProbeDocument
from app.jobs.probe_queries import get_probe, list_probes
from app.jobs.resources import probe_resource
from app.jobs.service import ProbeService
from app.schemas.probe import ProbeList, ProbeResource
from app.security.access import admit

router = APIRouter(prefix="/probes", tags=["probes"])

ProbeId = Annotated[str, Path(min_length=1, max_length=32, description="A probe's id.")]
_LOCKED = (401, 403, 503)
_ONE = answers(404, 422, *_LOCKED)


class Listing(BaseModel):
    """Which probes to list."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["queued", "claimed", "running", "succeeded", "failed", "cancelled"] | None = None
    cursor: str | None = Field(None, min_length=1, max_length=32, description="`next_cursor` of the page before.")
    limit: int = Field(50, ge=1, le=200, description="Most probes to return.")


def _service(request: Request) -> ProbeService:
    service: ProbeService = request.app.state.service
    return service


@router.post(
    "",
    status_code=202,
    response_model=None,
    responses={202: {"model": ProbeResource}, **answers(400, 404, 409, 413, 415, 422, 424, 429, *_LOCKED)},
    openapi_extra=json_body(ProbeDocument, examples.PLAN_REQUESTS),
)
async def create_probe(
    request: Request,
    idempotency_key: Annotated[
        str | None, Header(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$", description="Same key, same probe.")
    ] = None,
) -> Response:
    """Queue a probe: a plan's document plus `instrument`, `memory_limit_bytes` and `weights`.

    The same `Idempotency-Key` with the same document answers with the probe it made the first time.
    """
    caller = await admit(request)
    probe = await _service(request).order(
        await read_json(request), Sender(caller.owner, idempotency_key, caller.is_operator)
    )
    return json_response(probe_resource(probe), 202, {"Location": f"/api/v1/probes/{probe.id}"})


@router.get("", response_model=None, responses={200: {"model": ProbeList}, **answers(404, 422, *_LOCKED)})
async def probes(request: Request, listing: Annotated[Listing, Query()]) -> Response:
    """Probes, newest first, a page at a time."""
    await admit(request)
    database = _service(request).database
    page = await asyncio.to_thread(list_probes, database, listing.state, listing.cursor, listing.limit)
    items = [probe_resource(probe) for probe in page.probes]
    return json_response({"items": items, "next_cursor": page.next_cursor})


@router.get("/{probe_id}", response_model=None, responses={200: {"model": ProbeResource}, **_ONE})
async def probe(request: Request, probe_id: ProbeId) -> Response:
    """One probe, with its measurement once there is one."""
    await admit(request)
    return json_response(probe_resource(await asyncio.to_thread(get_probe, _service(request).database, probe_id)))


@router.get(
    "/{probe_id}/events",
    response_model=None,
    responses={
        200: {"description": "Server-sent events until the probe has ended", "content": {"text/event-stream": {}}},
        **answers(404, 422, 429, *_LOCKED),
    },
)
async def probe_events(
    request: Request,
    probe_id: ProbeId,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=2**31 - 1, description="Resume after this event; browsers send it by themselves.")
    ] = None,
) -> Response:
    """Follow a probe live. Each event has an id to resume from; the last one tells the final state."""
    caller = await admit(request)
    service = _service(request)
    await asyncio.to_thread(get_probe, service.database, probe_id)
    return service.streams.follow(probe_id, last_event_id or 0, caller.token)


@router.delete("/{probe_id}", status_code=202, response_model=None, responses={202: {"model": ProbeResource}, **_ONE})
async def cancel_probe(request: Request, probe_id: ProbeId) -> Response:
    """Ask for the end of a probe of one's own: a queued one ends at once, a running one soon, a finished one stays."""
    caller = await admit(request)
    return json_response(probe_resource(await _service(request).cancel(probe_id, caller.may_end)), 202)
