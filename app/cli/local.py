"""Planning in this process, without a server. The hub is opened only for a model that the catalogue lacks."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from app.hub.names import RepoName
from app.planning import Planning
from planner.catalog import resolve_gpu
from planner.catalog.model_rows import model_catalog
from planner.errors import UnknownArchitectureError, UnknownModelError
from planner.gpu import Gpu
from planner.limits import Limits
from planner.not_planned import NotPlanned
from planner.plan import Plan, plan
from planner.request import Request


class _HubOnDemand:
    """Brings httpx and the settings only when a config must be fetched: they take longer to import than a plan."""

    async def config(self, repo: RepoName) -> dict[str, Any]:
        from app.hub.client import Hub
        from app.settings import Settings

        hub = Hub(Settings.load())
        try:
            return await hub.config(repo)
        finally:
            await hub.aclose()


def read(document: object) -> Request:
    """Build the request; a model may be a path on this machine.

    Raises:
        InvalidRequestError: names every bad field at once.
    """
    return _planning().read(document)


def answer(request: Request, not_planned: Sequence[NotPlanned] = ()) -> Plan:
    """Plan `request`, with what a trainer's file asks for beside it.

    Raises:
        FitproofError: as `Planning.plan` does.
    """
    return asyncio.run(_planning().plan(request, not_planned))


def limits(request: Request) -> Limits:
    """Say how far `request` can be stretched.

    Raises:
        FitproofError: as `Planning.limits` does.
    """
    return asyncio.run(_planning().limits(request))


def predict(request: Request) -> tuple[Request, Gpu, Plan | None]:
    """Return what a probe needs besides the request as written: the request with its model spelled out, and the card.

    The prediction is None where the formulas do not know the architecture; the probe may.

    Raises:
        FitproofError: as `Planning.subjects` does.
    """
    planning = _planning()
    try:
        model, gpu = asyncio.run(planning.subjects(request))
        spelled = request if model.row else _spelled(request, model.config)
        return spelled, gpu, plan(request, model=model, gpu=gpu)
    except UnknownArchitectureError:
        known = request.model if _in_catalogue(request.model) else asyncio.run(planning.config(request.model))
        return _spelled(request, known), resolve_gpu(request.gpu), None


def _spelled(request: Request, model: str | Mapping[str, Any]) -> Request:
    return request.model_copy(update={"model": model if isinstance(model, str) else dict(model)})


def _in_catalogue(model: str | Mapping[str, Any]) -> bool:
    try:
        return isinstance(model, str) and bool(model_catalog().find(model))
    except UnknownModelError:
        return False


def _planning() -> Planning:
    return Planning(_HubOnDemand(), local_files=True)
