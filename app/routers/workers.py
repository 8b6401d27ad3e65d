"""GET /workers: what is attached, what it can play, and whether it is busy."""

import asyncio

from fastapi import APIRouter, Request, Response

from app.documents import answers, json_response
from app.jobs.dispatch.roster import seen_workers
from app.jobs.resources import worker_resource
from app.schemas.probe import WorkerList

router = APIRouter(tags=["probes"])

NO_WORKER_HINT = (
    "No worker is attached. Install the probe extra beside the server (pip install 'fitproof[probe]') and restart it, "
    "or point FITPROOF_RAY_URL at a Ray cluster."
)


@router.get("/workers", response_model=None, responses={200: {"model": WorkerList}, **answers(503)})
async def workers(request: Request) -> Response:
    """Every attached worker. A card can play any smaller one."""
    database = request.app.state.service.database
    items = [worker_resource(seen) for seen in await asyncio.to_thread(seen_workers, database)]
    return json_response({"items": items, "hint": None if items else NO_WORKER_HINT})
