"""Answer an order's open questions before it is written down: which instrument, which card, whether it may run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.engines.base import Worker
from app.jobs.order import Order, Settled
from app.jobs.scheduling import suits
from planner.catalog import resolve_gpu
from planner.errors import FieldProblem, FitproofError, InvalidRequestError, UnknownArchitectureError
from planner.gpu import Gpu
from planner.measurement import Instrument
from planner.model.model import Model
from planner.request.schema import Request


class NoWorkerError(FitproofError):
    """Nothing attached can run this probe."""

    status = 409
    code = "no_worker"


class PlannedRun(Protocol):
    """What is kept of a plan beside its probe."""

    def to_dict(self) -> dict[str, Any]:
        """The plan's document."""
        ...


class Planner(Protocol):
    """The way in for plans (`app.planning.Planning`)."""

    def live_card(self, gpu: Gpu) -> Gpu:
        """Return the card with this installation's own readings, where it has some."""
        ...

    async def model(self, model: str | Mapping[str, Any]) -> Model:
        """Find a model."""
        ...

    async def config(self, model: str | Mapping[str, Any]) -> Mapping[str, Any]:
        """Read a model's config where no formula knows it."""
        ...

    async def plan(self, request: Request) -> PlannedRun:
        """Answer a request."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator allows: wall-clock time, and the largest model that this machine's processor tries."""

    deadline_seconds: int
    cpu_params: int


async def settle_order(order: Order, planner: Planner, workers: Sequence[Worker], limits: Limits) -> Settled:
    """Settle `order` against the attached workers.

    Raises:
        NoWorkerError: none could run it; says how to attach one.
        InvalidRequestError: the instrument asked for cannot play this model.
        FitproofError: the model or the card is unknown.
    """
    gpu = planner.live_card(resolve_gpu(order.request.gpu))
    params, config = await _subject(order.request, planner)
    instrument = _instrument(order, params, limits)
    draft = _Draft(instrument or "cuda", gpu.id, gpu.usable_bytes, order.switches.memory_limit_bytes)
    playable = any(suits(draft, worker) for worker in workers)
    if instrument is None:
        instrument = "cuda" if playable else _without_card(params, limits)
        draft.instrument = instrument
        playable = any(suits(draft, worker) for worker in workers)
    if not playable:
        raise _no_worker(instrument, gpu)
    return Settled(
        order=order,
        instrument=instrument,
        card=gpu.id,
        card_bytes=gpu.usable_bytes,
        params=params,
        deadline_seconds=limits.deadline_seconds,
        prediction=await _prediction(order.request, planner),
        config=config,
    )


@dataclass(slots=True)
class _Draft:
    """The columns that placement reads, before there is a row."""

    instrument: str
    card: str | None
    card_bytes: int | None
    memory_limit_bytes: int | None


async def _subject(request: Request, planner: Planner) -> tuple[int | None, Mapping[str, Any] | None]:
    """Return the model's parameters, and the config to send along where the probe could not find it by name."""
    try:
        model = await planner.model(request.model)
    except UnknownArchitectureError:
        # The formulas do not know it; a dry run builds it from its config.
        return None, None if isinstance(request.model, Mapping) else await planner.config(request.model)
    known_by_name = model.row is not None or isinstance(request.model, Mapping)
    return model.params, None if known_by_name else dict(model.config)


def _instrument(order: Order, params: int | None, limits: Limits) -> Instrument | None:
    """Return the instrument asked for, None for the truest that is attached."""
    wanted = order.switches.instrument
    if wanted == "cpu" and _without_card(params, limits) != "cpu":
        size = "of unknown size" if params is None else f"of {params:,} parameters"
        fix = f"a model {size} is too large for a processor here (at most {limits.cpu_params:,}); use dry-run or cuda"
        raise InvalidRequestError("The request has fields that cannot be used.", [FieldProblem("instrument", fix)])
    return None if wanted == "auto" else wanted


def _without_card(params: int | None, limits: Limits) -> Instrument:
    return "cpu" if params is not None and params <= limits.cpu_params else "dry-run"


async def _prediction(request: Request, planner: Planner) -> dict[str, Any] | None:
    try:
        plan = (await planner.plan(request)).to_dict()
    except FitproofError:
        # No formula for this model: the probe's own answer is then the only one.
        return None
    kept = ("verdict", "peak_allocated_bytes", "peak_phase", "required_bytes", "usable_bytes", "phases")
    return {key: plan[key] for key in kept}


def _no_worker(instrument: Instrument, gpu: Gpu) -> NoWorkerError:
    if instrument == "cuda":
        title = f"No attached card can run this: it needs a {gpu.name} or a larger one."
        fix = "attach a GPU: run fitproof on a machine that has one, or point FITPROOF_RAY_URL at a Ray cluster"
    else:
        title = "No worker is attached."
        fix = (
            "install the probe extra beside the server (pip install 'fitproof[probe]') and restart it, "
            "or point FITPROOF_RAY_URL at a Ray cluster"
        )
    return NoWorkerError(title, [FieldProblem("instrument", fix)])
