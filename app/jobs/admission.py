"""Answer an order's open questions before it is written down: which instrument, which card, whether it may run."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.engines.base import Worker
from app.jobs.dispatch.scheduling import suits
from app.jobs.order import Order, Settled
from app.jobs.subject import Subject
from planner.errors import FieldProblem, FitproofError, InvalidRequestError
from planner.measurement import Instrument
from planner.request.recipe import Recipe
from planner.request.unprobed import unprobed


class NoWorkerError(FitproofError):
    """Nothing attached can run this probe."""

    status = 409
    code = "no_worker"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator allows: wall-clock time, and the largest model that this machine's processor tries."""

    deadline_seconds: int
    cpu_params: int


def settle_order(order: Order, subject: Subject, workers: Sequence[Worker], limits: Limits) -> Settled:
    """Settle `order`, which is about `subject`, against the attached workers.

    Raises:
        NoWorkerError: none could run it; says how to attach one.
        InvalidRequestError: the instrument asked for cannot play this model.
    """
    params = subject.params
    instrument = _instrument(order, params, limits)
    draft = _Draft(instrument or "cuda", subject.card, subject.card_bytes, order.switches.memory_limit_bytes)
    playable = any(suits(draft, worker) for worker in workers)
    if instrument is None:
        instrument = "cuda" if playable else _without_card(params, limits)
        draft.instrument = instrument
        playable = any(suits(draft, worker) for worker in workers)
    if not playable:
        raise _no_worker(instrument, subject.card_name)
    return Settled(
        order=order,
        instrument=instrument,
        card=subject.card,
        card_bytes=subject.card_bytes,
        params=params,
        deadline_seconds=limits.deadline_seconds,
        prediction=subject.prediction,
        config=subject.config,
    )


@dataclass(slots=True)
class _Draft:
    """The columns that placement reads, before there is a row."""

    instrument: str
    card: str | None
    card_bytes: int | None
    memory_limit_bytes: int | None


def _instrument(order: Order, params: int | None, limits: Limits) -> Instrument | None:
    """Return the instrument asked for, None for the truest that is attached. Several cards are played by a dry run."""
    wanted = order.switches.instrument
    recipe = Recipe.of(order.request)
    if recipe.layout.strategy != "single":
        if problems := list(unprobed(recipe, "dry-run" if wanted == "auto" else wanted)):
            raise InvalidRequestError("The request has fields that cannot be used.", problems)
        return "dry-run"
    if wanted == "cpu" and _without_card(params, limits) != "cpu":
        size = "of unknown size" if params is None else f"of {params:,} parameters"
        fix = f"a model {size} is too large for a processor here (at most {limits.cpu_params:,}); use dry-run or cuda"
        raise InvalidRequestError("The request has fields that cannot be used.", [FieldProblem("instrument", fix)])
    return None if wanted == "auto" else wanted


def _without_card(params: int | None, limits: Limits) -> Instrument:
    return "cpu" if params is not None and params <= limits.cpu_params else "dry-run"


def _no_worker(instrument: Instrument, card: str) -> NoWorkerError:
    if instrument == "cuda":
        title = f"No attached card can run this: it needs a {card} or a larger one."
        fix = "attach a GPU: run fitproof on a machine that has one, or point FITPROOF_RAY_URL at a Ray cluster"
    else:
        title = "No worker is attached."
        fix = (
            "install the probe extra beside the server (pip install 'fitproof[probe]') and restart it, "
            "or point FITPROOF_RAY_URL at a Ray cluster"
        )
    return NoWorkerError(title, [FieldProblem("instrument", fix)])
