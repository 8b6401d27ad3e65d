"""The application, put together: settings, middleware, routers, lifespans. Nothing is decided here."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from starlette.middleware import Middleware

from app import problems
from app.documents import install_openapi
from app.hub import Hub
from app.middleware.body import BodyLimit
from app.middleware.headers import SecurityHeaders
from app.middleware.requests import RequestLog
from app.planning import Planning
from app.routers import catalog, plans
from app.settings import Settings
from planner.request import Request

DESCRIPTION = "Will this fine-tuning run fit on this GPU? A byte budget, and a real probe to prove it."


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application on `settings`, by default those of the environment.

    `app.state.settings` and `app.state.planning` are what routes read.
    """
    settings = settings or Settings.load()
    app = FastAPI(
        title="Fitproof",
        version=installed_version(),
        description=DESCRIPTION,
        openapi_url="/api/v1/openapi.json",
        # The usual documentation pages load scripts from elsewhere, which our Content-Security-Policy forbids.
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        middleware=[
            Middleware(RequestLog),
            Middleware(SecurityHeaders),
            Middleware(BodyLimit, max_bytes=settings.max_body_bytes),
        ],
    )
    hub = Hub(settings)
    app.state.settings, app.state.hub, app.state.planning = settings, hub, Planning(hub)
    for router in (plans.router, catalog.router):
        app.include_router(router, prefix="/api/v1")
    problems.install(app)
    install_openapi(app, Request)
    return app


def installed_version() -> str:
    """The version of the installed distribution; a checkout that nobody installed has none."""
    try:
        return version("fitproof")
    except PackageNotFoundError:
        return "0+checkout"


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open what lives as long as the server, in order; close it in reverse."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(app.state.hub.aclose)
        yield
