"""POST /inference: how much context for how many users on this card?"""

from fastapi import APIRouter, Request, Response

from app import examples
from app.documents import answers, json_body, json_response, read_json
from app.schemas.inference import InferenceDocument
from app.serving import answer_inference
from planner.serving.request import Inference

router = APIRouter(tags=["plans"])


@router.post(
    "/inference",
    response_model=None,
    responses={200: {"model": InferenceDocument}, **answers(400, 403, 404, 413, 415, 422, 424)},
    openapi_extra=json_body(Inference, examples.INFERENCE_REQUESTS),
)
async def inference(request: Request) -> Response:
    """Whether a model serves this context and batch, and how much of either would fit."""
    return json_response(await answer_inference(request.app.state.planning, await read_json(request)))
