"""Planning in this process, without a server. The hub is opened only for a model that the catalogue lacks."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from app.hub.names import RepoName
from app.planning import Planning
from planner.answer.plan import Plan, plan
from planner.answer.reach.limits import Limits
from planner.catalog import resolve_gpu
from planner.catalog.model_rows import model_catalog
from planner.errors import FitproofError, UnknownArchitectureError, UnknownModelError
from planner.gpu import Gpu
from planner.request.schema import Request


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
    with _in_the_files_words(document):
        return _planning().read(document)


def answer(request: Request, document: object = None) -> Plan:
    """Plan `request`, with what the trainer's file that it was read from asks for beside it.

    Raises:
        FitproofError: as `Planning.plan` does.
    """
    imported = getattr(document, "imported", None)
    if imported is None or not isinstance(document, dict):
        return asyncio.run(_planning().plan(request))
    from app.imports.planned import plan_what_has_formulas

    with _in_the_files_words(document):
        return asyncio.run(plan_what_has_formulas(_planning(), imported, document))[1]


@contextmanager
def _in_the_files_words(document: object) -> Iterator[None]:
    """Name bad fields as the trainer's file does, where the request was read from one."""
    try:
        yield
    except FitproofError as error:
        imported = getattr(document, "imported", None)
        if imported is not None:
            error.problems = tuple(imported.in_the_files_words(error.problems))
        raise


def inference(document: dict[str, Any]) -> dict[str, Any]:
    """Answer an inference question; a model may be a path on this machine.

    Raises:
        FitproofError: as `answer_inference` does.
    """
    from app.serving import answer_inference

    return asyncio.run(answer_inference(_planning(), document))


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
