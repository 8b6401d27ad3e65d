"""POST /plans: will this run fit on this card?"""

from fastapi import APIRouter, Request, Response

from app import examples
from app.documents import answers, json_body, read_json
from app.schemas.plan import PlanDocument
from planner.request.schema import Request as PlanRequest

router = APIRouter(tags=["plans"])


@router.post(
    "/plans",
    response_model=None,
    responses={200: {"model": PlanDocument}, **answers(400, 403, 404, 413, 415, 422, 424)},
    openapi_extra=json_body(PlanRequest, examples.PLAN_REQUESTS),
)
async def create_plan(request: Request) -> Response:
    """Answer with a verdict and every byte accounted for. Nothing is stored: the same request, the same answer."""
    planning = request.app.state.planning
    body = await planning.document(planning.read(await read_json(request)))
    return Response(body, media_type="application/json")
