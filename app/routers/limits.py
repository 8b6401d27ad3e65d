"""GET /limits: how far can this run be stretched on this card?"""

from fastapi import APIRouter, Request, Response

from app.documents import answers, json_response
from app.forms.api_query import query_parameters, read_query
from app.schemas.limits import LimitsDocument

router = APIRouter(tags=["plans"])


@router.get(
    "/limits",
    response_model=None,
    responses={200: {"model": LimitsDocument}, **answers(403, 404, 422, 424)},
    openapi_extra={"parameters": query_parameters()},
)
async def limits(request: Request) -> Response:
    """The largest micro-batch and the longest length that fit, everything else unchanged, and the smallest cards."""
    planning = request.app.state.planning
    asked = read_query(planning, request.query_params.multi_items())
    return json_response((await planning.limits(asked)).to_dict())
