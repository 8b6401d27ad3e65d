"""What only the server itself asks its workers: no address of the site leads here (`computed_paths`)."""

from dataclasses import asdict

from fastapi import APIRouter, Request, Response

from app.compute.questions import CARD_RUN, SUBJECT
from app.documents import json_response, read_json
from app.jobs.subject import subject_of
from planner.catalog import find_gpu
from planner.evidence.cards import card_run
from planner.measurement import Measurement

router = APIRouter()


@router.post(SUBJECT)
async def subject(request: Request) -> Response:
    """Look up and plan what an order is about."""
    planning = request.app.state.planning
    return json_response(asdict(await subject_of(planning.read(await read_json(request)), planning)))


@router.post(CARD_RUN)
async def run(request: Request) -> Response:
    """Hold a measurement to the plan of the same request for its card; null where it says nothing of the formulas."""
    asked = await read_json(request)
    # Its request may hold a model of the caller's own.
    request.app.state.facts.be_alone()
    found = card_run(Measurement.model_validate(asked["measurement"]), find_gpu(asked["card"]))
    return json_response(asdict(found) if found else None)
