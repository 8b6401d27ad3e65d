"""The application, put together: settings, middleware, routers, lifespans. Nothing is decided here."""

import gc
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from starlette.middleware import Middleware

from app import problems, static_files, views
from app.compute.answering import API, API_PARTS
from app.compute.answers import Answers
from app.compute.middleware import Computed
from app.compute.pool import Pool, StartTemplate
from app.compute.processes import Template
from app.compute.worker_questions import WorkerQuestions
from app.documents import install_openapi
from app.engines.base import Engine
from app.hub.client import Hub
from app.hub.remote_file import RemoteFiles
from app.jobs import service
from app.jobs.metrics import Metrics, RequestMetrics
from app.jobs.order import ProbeDocument
from app.middleware.body import BodyLimit
from app.middleware.compression import compression
from app.middleware.headers import SecurityHeaders
from app.middleware.requests import RequestLog
from app.planning import Planning
from app.routers import evidence, health, probes, workers
from app.routers.imports import ImportRequest
from app.security.local_access import new_key
from app.security.rates import RateLimit
from app.settings import Settings
from app.views.probe import pages as probe_pages
from planner.request.schema import Request
from planner.serving.request import Inference

DESCRIPTION = "Will this fine-tuning run fit on this GPU? A byte budget, and a real probe to prove it."


def create_app(
    settings: Settings | None = None,
    engines: Sequence[Engine] | None = None,
    start_template: StartTemplate = Template.started,
) -> FastAPI:
    """Build the application on `settings`, by default those of the environment, on `engines`, by default its own, and
    on workers of the template that `start_template` starts.

    `app.state.settings` and `app.state.planning` are what routes read; `app.state.service` is there while it runs.
    """
    settings, metrics = settings or Settings.load(), Metrics()
    pool = Pool(settings.workers, start_template)
    app = FastAPI(
        title="Fitproof",
        version=installed_version(),
        description=DESCRIPTION,
        openapi_url=f"{API}/openapi.json",
        # The usual documentation pages load scripts from elsewhere, which our Content-Security-Policy forbids.
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(RequestLog, page=views.error_page),
            Middleware(RequestMetrics, metrics=metrics),
            Middleware(RateLimit, per_minute=settings.requests_per_minute, spares_loopback=settings.local_access),
            Middleware(BodyLimit, max_bytes=settings.max_body_bytes),
        ],
    )
    questions = WorkerQuestions(app)
    answers = Answers(pool, questions.facts, questions.answer)
    # Within all of these, so that a body is whole and short before a worker sees it.
    app.user_middleware += [
        Middleware(Computed, answers=answers, page=views.error_page),
        *compression(),
    ]
    hub = Hub(settings)
    app.state.settings, app.state.hub, app.state.planning = settings, hub, Planning(hub)
    app.state.files = RemoteFiles(settings)
    app.state.metrics, app.state.engines, app.state.pool, app.state.answers = metrics, engines, pool, answers
    app.state.local_key = new_key()
    # The parts that workers answer are here for the OpenAPI document.
    for part in (*API_PARTS, probes, workers, evidence):
        app.include_router(part.router, prefix=API)
    app.include_router(health.router)
    app.include_router(probe_pages.router)
    app.include_router(static_files.router)
    problems.install(app, views.error_page)
    install_openapi(app, Request, Inference, ProbeDocument, ImportRequest)
    return app


def installed_version() -> str:
    """The version of the installed distribution; a checkout that is not installed has none."""
    try:
        return version("fitproof")
    except PackageNotFoundError:
        return "0+checkout"


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open what lives as long as the server, in order; close it in reverse."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(app.state.hub.aclose)
        stack.push_async_callback(app.state.pool.close)
        await stack.enter_async_context(service.lifespan(app, app.state.engines))
        # What start-up made stays for good: without it, collections during requests have less to look through.
        gc.collect()
        gc.freeze()
        yield
