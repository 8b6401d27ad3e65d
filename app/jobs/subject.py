"""What an order is about, looked up and planned: worked out in a worker, never in the server itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.planning import Planning
from planner.catalog import resolve_gpu
from planner.errors import FitproofError, UnknownArchitectureError
from planner.request.schema import Request

_KEPT = ("verdict", "peak_allocated_bytes", "peak_phase", "required_bytes", "usable_bytes", "phases")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """`params` is None where no formula knows the model, and so is `prediction`.

    `config` goes along where the probe could not find the model by its name.
    """

    card: str
    card_name: str
    card_bytes: int
    params: int | None
    config: Mapping[str, Any] | None
    prediction: Mapping[str, Any] | None


async def subject_of(request: Request, planning: Planning) -> Subject:
    """Look up the card and the model of `request`, and plan it.

    Raises:
        FitproofError: the model or the card is unknown.
    """
    gpu = planning.live_card(resolve_gpu(request.gpu))
    params, config = await _model_of(request, planning)
    return Subject(
        card=gpu.id,
        card_name=gpu.name,
        card_bytes=gpu.usable_bytes,
        params=params,
        config=config,
        prediction=await _prediction(request, planning),
    )


async def _model_of(request: Request, planning: Planning) -> tuple[int | None, Mapping[str, Any] | None]:
    try:
        model = await planning.model(request.model)
    except UnknownArchitectureError:
        # The formulas do not know it; a dry run builds it from its config.
        return None, None if isinstance(request.model, Mapping) else await planning.config(request.model)
    known_by_name = model.row is not None or isinstance(request.model, Mapping)
    return model.params, None if known_by_name else dict(model.config)


async def _prediction(request: Request, planning: Planning) -> dict[str, Any] | None:
    try:
        plan = (await planning.plan(request)).to_dict()
    except FitproofError:
        # No formula for this model: the probe's own answer is then the only one.
        return None
    return {key: plan[key] for key in _KEPT}
