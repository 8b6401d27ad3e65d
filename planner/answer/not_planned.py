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
from planner.memory.optimizer import ALIVE_IN, optimizer_lines
from planner.model.model import Model, resolve_model
from planner.request.recipe import DTYPE_BYTES, Recipe
from planner.step import step_lines
from planner.tensors.inventory import TensorGroup
from planner.tensors.targets import module_name
from planner.tensors.trainable import Trainable
from planner.units import allocated


@dataclass(frozen=True, slots=True)
class WholeModules:
    """Modules that PEFT copies and trains as a whole beside the adapters: `modules_to_save`, `additional_target`."""

    names: tuple[str, ...]


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


Least = WholeModules | FrozenCopy | CardShare | Pairs


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
    if isinstance(item.least, WholeModules):
        return _whole_modules(item.key, item.least.names, model, recipe)
    if isinstance(item.least, FrozenCopy):
        other = _named(item.least.name) if item.least.name not in {"", model.id} else model
        return (_frozen_copy(item.key, other, recipe),) if other else ()
    if isinstance(item.least, Pairs):
        copy = (_frozen_copy(item.key, model, recipe),) if item.least.reference else ()
        return (*copy, *_second_answers(item.key, model, recipe, gpu))
    if isinstance(item.least, CardShare):
        return (card_share(item.key, item.least.fraction, gpu),)
    return ()


def _whole_modules(key: str, names: tuple[str, ...], model: Model, recipe: Recipe) -> tuple[Line, ...]:
    """A trained copy of each module, its gradient and its optimizer state (peft utils/other.py, ModulesToSaveWrapper).

    The copy is kept as adapters are: `autocast_adapter_dtype` turns every trained tensor to float32. Gradients are
    there from their making to the end of the step, so they count in the optimizer's phase alone.
    """
    tensors = [_trained(group, recipe) for group in _modules(names, model)]
    elements = sum(tensor.elements * tensor.count for tensor in tensors)
    held_bytes = sum(allocated(tensor.elements * tensor.itemsize_bytes) * tensor.count for tensor in tensors)
    each = DTYPE_BYTES[recipe.adapter_dtype]
    source = "peft 0.21 utils/other.py ModulesToSaveWrapper.update; tuners_utils.py cast_adapter_dtype"

    def line(what: str, alive_in: tuple[str, ...], *, gradients: bool) -> Line:
        return Line(
            name=f"{what} ({key})", bytes=held_bytes, cause="gradients" if gradients else "adapters",
            alive_in=alive_in, formula=f"{each} n", working=f"{each} x {elements:,}", source=source,
        )  # fmt: skip

    states = optimizer_lines(tensors, recipe.training.optim, clips=False, embeddings_in_32bit=recipe.by_trainer)
    return (
        line("trained copies of whole modules", PHASES[1:], gradients=False),
        line("gradients of whole modules", ("optimizer",), gradients=True),
        *(replace(state, name=f"{state.name} of whole modules") for state in states if state.alive_in == ALIVE_IN),
    )


def _modules(names: tuple[str, ...], model: Model) -> list[TensorGroup]:
    """The weights of the modules named, by the ends of their paths as PEFT matches them; a tied head has its own copy.

    PEFT copies `embed_tokens` and `lm_head` apart even where they share a tensor.
    """
    found = [group for group in model.census if module_name(group).endswith(names) and group.role != "buffer"]
    tied = not any(group.role == "head" for group in model.census)
    embedding = next((group for group in model.census if group.role == "embedding"), None)
    if tied and embedding and any(name.endswith("lm_head") for name in names):
        found.append(replace(embedding, name="lm_head.weight", role="head"))
    return found


def _trained(group: TensorGroup, recipe: Recipe) -> Trainable:
    return Trainable(
        name=group.name,
        shape=group.shape,
        count=group.count,
        itemsize_bytes=DTYPE_BYTES[recipe.adapter_dtype],
        embedding=group.role == "embedding",
    )


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
