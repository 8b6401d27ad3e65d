"""Prove it: order a probe from the plan's page, watch it, end it, and see what is attached."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.forms.plan_address import pairs_in
from app.forms.plan_form import read_form
from app.jobs.dispatch.roster import seen_workers
from app.jobs.intake import Sender
from app.jobs.probe_queries import events_after, get_probe, list_probes
from app.jobs.resources import worker_resource
from app.jobs.service import ProbeService
from app.routers.workers import NO_WORKER_HINT
from app.security.access import TokenNeededError, admit
from app.templating import page, render, wants_fragment
from app.views.probe import sign_in
from app.views.probe.probe_view import INSTRUMENTS, ProbeView
from app.views.probe.sign_in import SEE_OTHER, ask_for_token
from planner.errors import FieldProblem, InvalidRequestError

router = APIRouter(include_in_schema=False)
router.include_router(sign_in.router)

_LATEST = 20


@router.post("/prove")
async def prove(request: Request) -> Response:
    """Queue a probe of the plan that the form carries, then show it."""
    form = await request.form(max_files=0, max_fields=8)
    query, instrument = str(form.get("plan", "")), str(form.get("instrument", "auto"))
    try:
        caller = await admit(request)
    except TokenNeededError as error:
        return ask_for_token(request, f"/plan?{query}", error)
    plan = read_form(pairs_in(f"?{query}"))
    if plan.errors:
        problems = [FieldProblem(name, message) for name, message in plan.errors.items()]
        raise InvalidRequestError("The plan to prove cannot be used.", problems)
    probe = await _service(request).order(
        {**plan.document, "instrument": instrument}, Sender(caller.owner, is_operator=caller.is_operator)
    )
    return RedirectResponse(f"/probes/{probe.id}", SEE_OTHER)


@router.get("/probes/{probe_id}")
async def show(request: Request, probe_id: str) -> Response:
    """One probe, live."""
    try:
        await admit(request)
    except TokenNeededError as error:
        return ask_for_token(request, request.url.path, error)
    database = _service(request).database
    probe = await asyncio.to_thread(get_probe, database, probe_id)
    _, events = await asyncio.to_thread(events_after, database, probe_id, 0)
    view = ProbeView(probe, events)
    if wants_fragment(request):
        return HTMLResponse(render("partials/probe.html", view=view), headers={"Cache-Control": "no-store"})
    response = page(request, "pages/probe.html", view=view, query=view.query)
    response.headers["Cache-Control"] = "no-store"
    return response


@router.post("/probes/{probe_id}/cancel")
async def cancel(request: Request, probe_id: str) -> Response:
    """End a probe, then show it."""
    caller = await admit(request)
    await _service(request).cancel(probe_id, caller.may_end)
    return RedirectResponse(f"/probes/{probe_id}", SEE_OTHER)


@router.get("/probes")
async def probes(request: Request) -> Response:
    """The latest probes, and the workers that are attached."""
    try:
        await admit(request)
    except TokenNeededError as error:
        return ask_for_token(request, request.url.path, error)
    database = _service(request).database
    latest = await asyncio.to_thread(list_probes, database, None, None, _LATEST)
    workers = [worker_resource(seen) for seen in await asyncio.to_thread(seen_workers, database)]
    views = [ProbeView(probe, ()) for probe in latest.probes]
    return page(
        request, "pages/probes.html", views=views, workers=workers, hint=NO_WORKER_HINT, instruments=INSTRUMENTS
    )


def _service(request: Request) -> ProbeService:
    service: ProbeService = request.app.state.service
    return service
