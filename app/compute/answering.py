"""The application inside a worker: the routes that compute, and nothing that opens a connection or a file."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, FastAPI

from app import problems, views
from app.compute import internal
from app.compute.questions import Facts
from app.hub.names import RepoName
from app.middleware.compression import compression
from app.planning import Planning
from app.routers import catalog, imports, inference, limits, plans, recommend
from planner.gpu import Gpu
from planner.model.model import Model

API = "/api/v1"
API_PARTS = (plans, limits, recommend, inference, imports, catalog)


class _ToldHub:
    """The hub as the server saw it."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def config(self, repo: RepoName) -> dict[str, Any]:
        facts: Facts = self._app.state.facts
        return facts.config(repo)


class _WatchedPlanning(Planning):
    """Reads a caller's own model in a worker of its own only."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(_ToldHub(app))
        self._app = app
        # Each request brings its own facts, so that this must not be bound to those of now.
        self.live_card = self._live

    @property
    def _facts(self) -> Facts:
        facts: Facts = self._app.state.facts
        return facts

    def _live(self, gpu: Gpu) -> Gpu:
        return self._facts.live(gpu)

    async def model(self, model: str | Mapping[str, Any]) -> Model:
        """As the planning of one process; see `Facts.alone`."""
        if isinstance(model, Mapping):
            self._facts.be_alone()
        return await super().model(model)


def answering_app() -> FastAPI:
    """Build the application whose `app.state.facts` is set before each request."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, middleware=compression())
    app.state.facts = Facts()
    app.state.planning = _WatchedPlanning(app)
    for part in API_PARTS:
        app.include_router(part.router, prefix=API)
    app.include_router(internal.router)
    app.include_router(views.computed)
    problems.install(app, views.error_page)
    return app


def computed_paths() -> tuple[frozenset[str], tuple[str, ...]]:
    """The addresses that workers answer: whole paths, and beginnings of those that end in a parameter."""
    parts: list[tuple[str, APIRouter]] = [(API, part.router) for part in API_PARTS]
    parts += [("", part.router) for part in views.COMPUTED_PARTS]
    paths = [prefix + str(getattr(route, "path", "")) for prefix, router in parts for route in router.routes]
    whole = frozenset(path for path in paths if "{" not in path)
    return whole, tuple(path.partition("{")[0] for path in paths if "{" in path)
