"""/healthz, /readyz and /metrics: for orchestrators and Prometheus."""

import asyncio

from fastapi import APIRouter, Request, Response

from app.documents import answers, json_response
from app.jobs.metrics import CONTENT_TYPE

router = APIRouter(tags=["operations"])


@router.get("/healthz", response_model=None)
def healthz() -> Response:
    """Whether the process answers at all. Asks nothing of anyone: a restart cures what fails this."""
    return json_response({"status": "ok"})


@router.get("/readyz", response_model=None, responses=answers(503))
async def readyz(request: Request) -> Response:
    """Whether requests should come here: the database answers and is whole. A missing worker does not stop planning."""
    service = request.app.state.service
    await asyncio.to_thread(service.database.check)
    return json_response({"status": "ready", "dispatches": service.leads})


@router.get("/metrics", response_model=None, responses={200: {"content": {"text/plain": {}}}, **answers(503)})
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    state = request.app.state
    body = await asyncio.to_thread(state.metrics.render, state.service)
    return Response(body, headers={"content-type": CONTENT_TYPE})
