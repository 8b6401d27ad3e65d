"""What a trainer's file asks for and no formula plans: named beside the verdict, with the bytes it is certain to take.

A plan with such a remainder never simply fits, and where the remainder may save memory it never simply does not. Where
the least that it takes is arithmetic, its lines join the ledger, so that a *does not fit* which follows is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from planner.errors import FitproofError, UnknownArchitectureError
from planner.gpu import Gpu
from planner.ledger import PHASES, Ledger, Line
from planner.model.model import Model, resolve_model
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.step import step_lines


@dataclass(frozen=True, slots=True)
class FrozenCopy:
    """A second model that only runs forward: a reference model. Without a name it is a copy of the trained one."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class CardShare:
    """A fraction of the card that another engine takes for itself: `vllm_gpu_memory_utilization`."""

    fraction: float


@dataclass(frozen=True, slots=True)
class Pairs:
    """A chosen and a rejected answer in place of each sequence, run together; `reference`: beside a frozen copy."""

    reference: bool = False


Least = FrozenCopy | CardShare | Pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class NotPlanned:
    """One key that moves memory and was not planned.

    `planned` says in the headline what was planned instead. `saves`: it may need less memory than was planned for.
    `least` is what it is known to hold beside the plan, and `lines` are the bytes of that.
    """

    key: str
    value: Any
    why: str
    planned: str = ""
    saves: bool = False
    least: Least | None = None
    lines: tuple[Line, ...] = ()

    @property
    def at_least_bytes(self) -> int:
        """What it takes at its own largest moment; 0 where no arithmetic tells."""
        return Ledger.of(self.lines).peak().allocated_bytes

    @property
    def in_headline(self) -> str:
        """What was planned in its place, to follow the verdict."""
        return self.planned or f"without {self.key}"

    def to_dict(self) -> dict[str, Any]:
        """As the API writes it."""
        said = {"key": self.key, "value": self.value, "why": self.why}
        return said | {"at_least_bytes": self.at_least_bytes} if self.lines else said


def as_planned(items: Sequence[NotPlanned], most: int = 3) -> str:
    """What the verdict is about, in words that follow it: "as plain SFT, without modules_to_save"."""
    said = dict.fromkeys(item.in_headline for item in items)
    phrases = [one for one in said if not any(other != one and other.startswith(one) for other in said)]
    more = f", and {len(phrases) - most} more left out" if len(phrases) > most else ""
    return ", ".join(phrases[:most]) + more


def weighed(items: Sequence[NotPlanned], model: Model, recipe: Recipe, gpu: Gpu) -> tuple[NotPlanned, ...]:
    """`items` with the lines that arithmetic can tell for this model, recipe and card."""
    return tuple(replace(item, lines=_least_lines(item, model, recipe, gpu)) for item in items)


def _least_lines(item: NotPlanned, model: Model, recipe: Recipe, gpu: Gpu) -> tuple[Line, ...]:
    if isinstance(item.least, FrozenCopy):
        other = _named(item.least.name) if item.least.name not in {"", model.id} else model
        return (_frozen_copy(item.key, other, recipe),) if other else ()
    if isinstance(item.least, Pairs):
        copy = (_frozen_copy(item.key, model, recipe),) if item.least.reference else ()
        return (*copy, *_second_answers(item.key, model, recipe, gpu))
    if isinstance(item.least, CardShare):
        return (card_share(item.key, item.least.fraction, gpu),)
    return ()


def _named(name: str) -> Model | None:
    """The catalogue's model of that name; nothing is fetched to weigh a remainder."""
    try:
        return resolve_model(name)
    except FitproofError:
        return None


def _frozen_copy(key: str, model: Model, recipe: Recipe) -> Line:
    each = DTYPE_BYTES[recipe.model_dtype]
    return Line(
        name=f"weights of a second, frozen model ({key})", bytes=each * model.params, cause="weights",
        alive_in=PHASES, formula="e n", working=f"{each} x {model.params:,}", evidence="modelled",
        source="a reference model is loaded beside the trained one: trl/trainer/dpo_trainer.py, ref_model",
    )  # fmt: skip


def _second_answers(key: str, model: Model, recipe: Recipe, gpu: Gpu) -> tuple[Line, ...]:
    """What a step of twice as many sequences has alive beside one of as many, at each of its moments."""
    if model.decoder is None:
        return ()
    training = recipe.training
    twice = training.model_copy(update={"per_device_train_batch_size": 2 * training.per_device_train_batch_size})
    once = {phase.name: phase for phase in Ledger.of(step_lines(model.decoder, recipe, gpu)).phases()}
    doubled = Ledger.of(step_lines(model.decoder, replace(recipe, training=twice), gpu)).phases()
    more = {phase.name: phase.allocated_bytes - once[phase.name].allocated_bytes for phase in doubled}
    return tuple(
        Line(
            name=f"activations of each pair's second answer ({key})", bytes=size, cause="activations", alive_in=(name,),
            formula="step(2 B) - step(B)", working=f"B = {training.per_device_train_batch_size}", evidence="modelled",
            source="trl/trainer/dpo_trainer.py, reward_trainer.py: chosen and rejected are one batch",
        )
        for name, size in more.items()
        if size > 0
    )  # fmt: skip


def step_unknown(model: Model) -> tuple[NotPlanned, ...]:
    """What is left out of a model of the catalogue whose layers no formula knows: its whole step."""
    try:
        model.known_decoder()
    except UnknownArchitectureError as error:
        planned = "as weights, adapters and optimizer state alone, without a step's activations"
        return (NotPlanned(key="model", value=model.id, why=error.title, planned=planned),)
    return ()


def card_share(key: str, fraction: float, gpu: Gpu) -> Line:
    """What vLLM takes for itself in the process of a trainer."""
    return Line(
        name=f"memory that vLLM takes for itself ({key})", bytes=round(fraction * gpu.usable_bytes), cause="runtime",
        alive_in=PHASES, formula="fraction x the card", working=f"{fraction} x {gpu.usable_bytes:,}",
        evidence="modelled", source="vllm/v1/worker/gpu_worker.py, gpu_memory_utilization of the card's total",
    )  # fmt: skip
