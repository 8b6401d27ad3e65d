"""What every card of one kind shares of a run: its ledger, and the replay for its reserved bytes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from planner.answer.not_planned import card_share
from planner.answer.replay.reserved_bytes import reserved_bytes
from planner.answer.spread_ledgers import SpreadLedgers, spread_ledgers
from planner.answer.static_lines import standing_bytes, static_lines, trained_tensors
from planner.errors import UnknownArchitectureError
from planner.gpu import Gpu
from planner.ledger import PHASES, Ledger, Line
from planner.memory.runtime import runtime_lines
from planner.model.model import Model
from planner.model.quantized_checkpoint import on_card
from planner.overheads.ranges import card_context_band
from planner.parallel.ddp import BUCKETS
from planner.parallel.flat_units import is_played
from planner.parallel.nccl import communication_lines
from planner.parallel.sequences import refuse_layers
from planner.parallel.step import held_beside, reserved_beside_bytes, traced_recipe
from planner.request.parallel import DeviceMap
from planner.request.recipe import Recipe
from planner.request.unprobed import unprobed
from planner.step import (
    HoldsBytes,
    buffered_batch,
    evaluated_lines,
    fake_quantized_scales,
    generated_lines,
    largest_bytes,
    offloaded_lines,
    step_lines,
    step_totals,
)
from planner.step.over_cards.least import least_on_a_card_bytes
from planner.step.recorded import Comparison, buffer_words, nearest, step_words, workspace_words
from planner.step.unsloth.buffers import unsloth_lines
from planner.tensors.tensor_storage import place
from planner.units import format_gib


def ledger_of(model: Model, recipe: Recipe, gpu: Gpu) -> Ledger:
    """Every line of a run: what is there throughout, what a step makes if it is known, what CUDA takes.

    Raises:
        UnknownArchitectureError: the family is known, this way of running it is not.
        InvalidRequestError: the LoRA targets do not match this model.
    """

    def lines() -> Sequence[Line]:
        return (
            *static_lines(model, recipe, gpu),
            *_step_lines(model, recipe, gpu),
            *_runtime_lines(gpu),
            *communication_lines(recipe.layout),
            *_beside_lines(model, recipe, gpu),
        )

    try:
        if recipe.layout.strategy == "single":
            return Ledger(lines, _totals(model, recipe, gpu))
        return Ledger.of(lines())
    except NotImplementedError as error:
        raise _unknown(error, model, recipe, gpu) from None


def _spread(model: Model, recipe: Recipe, gpu: Gpu) -> SpreadLedgers | None:
    """What each card of a `device_map` holds; None of any other strategy."""
    if recipe.layout.strategy != "device_map":
        return None
    try:
        return spread_ledgers(model, recipe, gpu)
    except NotImplementedError as error:
        raise _unknown(error, model, recipe, gpu) from None


def _unknown(error: NotImplementedError, model: Model, recipe: Recipe, gpu: Gpu) -> UnknownArchitectureError:
    plays = "fitproof dry-run of your own script" if any(unprobed(recipe, "dry-run")) else "fitproof probe --on dry-run"
    title = f"The formulas cannot plan this: {error}. The dry run may: {plays}"
    return UnknownArchitectureError(f"{title}. {_certain(model, recipe, gpu)}", dry_run=True)


def _step_lines(model: Model, recipe: Recipe, gpu: Gpu) -> Sequence[Line]:
    """The step's own; where GRPO generates, the forward phase is that of training or generation, whichever is more, and
    where something is evaluated, the loss's is that of training or evaluation.
    """
    comparison = comparison_of(model, recipe, gpu)
    if model.decoder is None or comparison is None:
        return ()
    lines = comparison.labelled(step_lines(model.decoder, traced_recipe(recipe), gpu, _held(model, recipe)))
    generated = generated_lines(model.decoder, recipe, gpu) if recipe.generates else ()
    return _or_more(_or_more(lines, generated, "forward"), evaluated_lines(model.decoder, recipe, gpu), "loss")


def _or_more(lines: Sequence[Line], others: Sequence[Line], phase: str) -> Sequence[Line]:
    """`lines`, with `others` in place of what they hold in `phase` where that is less."""
    held_bytes = sum(line.bytes for line in lines if phase in line.alive_in)
    if sum(line.bytes for line in others) <= held_bytes:
        return lines
    rest = [replace(line, alive_in=tuple(name for name in line.alive_in if name != phase)) for line in lines]
    return (*(line for line in rest if line.alive_in), *others)


def _runtime_lines(gpu: Gpu) -> Sequence[Line]:
    context = card_context_band(gpu)
    lines = runtime_lines(
        gpu.compute_capability, context_bytes=round(context.likely), context_source=context.source
    )
    return nearest("workspace", workspace_words(gpu.compute_capability)).labelled(lines)


def _totals(model: Model, recipe: Recipe, gpu: Gpu) -> list[int]:
    """What the lines add up to on one card, by phase; the lines themselves take longer, and few plans need them."""
    step = step_totals(model.decoder, traced_recipe(recipe), gpu) if model.decoder else {}
    if model.decoder and recipe.generates:
        generated_bytes = sum(line.bytes for line in generated_lines(model.decoder, recipe, gpu))
        step["forward"] = max(step["forward"], generated_bytes)
    if model.decoder and recipe.evaluates:
        step["loss"] = max(step["loss"], sum(line.bytes for line in evaluated_lines(model.decoder, recipe, gpu)))
    standing = standing_bytes(model, recipe, gpu)
    beside = _beside_lines(model, recipe, gpu)
    held = [sum(line.bytes for line in beside if name in line.alive_in) for name in PHASES]
    return [total + step.get(name, 0) + own for name, total, own in zip(PHASES, standing, held, strict=True)]


def _beside_lines(model: Model, recipe: Recipe, gpu: Gpu) -> tuple[Line, ...]:
    """vLLM's share where it generates in this process, from the first moment on; Unsloth's own buffers; what TRL's
    offloading keeps, on the card and on the host; the batch that GRPO keeps of a generation.
    """
    fraction = recipe.training.vllm_gpu_memory_utilization
    share = (card_share("vllm_gpu_memory_utilization", fraction, gpu),) if fraction else ()
    buffers = unsloth_lines(model, recipe)
    if buffers and model.decoder:
        buffers = nearest("buffers", buffer_words(model.decoder, recipe)).labelled(buffers)
    offloaded = offloaded_lines(model.decoder, recipe, gpu) if model.decoder else ()
    scales = fake_quantized_scales(model.decoder, recipe) if model.decoder else ()
    return (*share, *buffers, *offloaded, *scales, *buffered_batch(recipe, "optimizer"))


def _certain(model: Model, recipe: Recipe, gpu: Gpu) -> str:
    """What is known of a run whose step is not: the tensors that are there throughout."""
    ledger = Ledger.of(static_lines(model, recipe, gpu))
    least_bytes = next(phase.allocated_bytes for phase in ledger.phases() if phase.name == "forward")
    end = "it does not fit" if least_bytes > gpu.usable_bytes * _shared_by(recipe) else "a step comes on top"
    return (
        f"For certain: weights, adapters and optimizer state take {format_gib(least_bytes)} of the "
        f"{format_gib(gpu.usable_bytes)} that {gpu.name} gives torch; {end}"
    )


def cannot_hold(model: Model, recipe: Recipe, gpu: Gpu) -> bool:
    """Whether what a step adds to is too much by itself; where it is, no step need be traced to know the verdict. Of
    layers that are spread over cards, also whether what one of them makes is, or the loss.

    Raises:
        InvalidRequestError: the LoRA targets do not match this model.
        UnknownArchitectureError: as `ledger_of`.
    """
    recipe = on_card(recipe, gpu)
    if isinstance(recipe.strategy, DeviceMap) and recipe.strategy.cards:  # of unlike cards no one says how much
        return False
    if recipe.layout.strategy == "single":
        return max(standing_bytes(model, recipe, gpu)) > gpu.usable_bytes
    if recipe.layout.strategy == "device_map" and model.decoder is not None:
        try:
            if least_on_a_card_bytes(model.decoder, recipe, gpu) > gpu.usable_bytes:
                return True
        except NotImplementedError as error:
            raise _unknown(error, model, recipe, gpu) from None
    return Ledger.of(static_lines(model, recipe, gpu)).peak().allocated_bytes > gpu.usable_bytes * _shared_by(recipe)


def _shared_by(recipe: Recipe) -> int:
    """On how many cards together lies what one card would have throughout."""
    return recipe.layout.world if recipe.layout.strategy == "device_map" else 1


@dataclass(frozen=True, slots=True)
class TracedRun:
    """What all cards of one kind share. The replay for reserved bytes is played once, when it is first needed."""

    model: Model
    recipe: Recipe
    ledger: Ledger
    reserved_bytes: Callable[[], int]
    largest_bytes: int
    spread: SpreadLedgers | None = None

    @classmethod
    def of(
        cls, model: Model, recipe: Recipe, gpu: Gpu, known: dict[tuple[object, ...], int] | None = None
    ) -> "TracedRun":
        """Walk the run. `known`: see `reserved_bytes`.

        Raises:
            FitproofError: as `ledger_of` does.
        """
        recipe = on_card(recipe, gpu)
        if spread := _spread(model, recipe, gpu):
            ledger = spread.fullest.ledger
            largest = largest_bytes(model.decoder, recipe, gpu) if model.decoder else 0
            return cls(model, recipe, ledger, lambda: ledger.peak().allocated_bytes, largest, spread)
        ledger = ledger_of(model, recipe, gpu)
        if model.decoder is None:
            return cls(model, recipe, ledger, lambda: ledger.peak().allocated_bytes, 0)
        largest = largest_bytes(model.decoder, recipe, gpu)
        return cls(model, recipe, ledger, cache(lambda: _reserved_bytes(model, recipe, gpu, ledger, known)), largest)


def comparison_of(model: Model, recipe: Recipe, gpu: Gpu) -> Comparison | None:
    """How this run's step, or the nearest on record, compared with torch's own record; None where none is planned."""
    if model.decoder is None:
        return None
    comparison = nearest("step", step_words(model.decoder, traced_recipe(recipe), gpu))
    return comparison if recipe.layout.strategy == "single" else comparison.of_several_cards()


def _held(model: Model, recipe: Recipe) -> HoldsBytes | None:
    """What a strategy for several cards holds while a step runs."""
    if recipe.layout.strategy == "single" or model.decoder is None:
        return None
    refuse_layers(model.decoder, recipe)
    adapters = trained_tensors(model, recipe) if recipe.lora else ()
    return held_beside(place(model.census, recipe), adapters, recipe, model.decoder.layers)


def _reserved_bytes(
    model: Model, recipe: Recipe, gpu: Gpu, ledger: Ledger, known: dict[tuple[object, ...], int] | None
) -> int:
    """One card's run is played through the allocator; of shards, what is alive and the streams' own blocks count."""
    if is_played(recipe):
        return max(reserved_bytes(model, recipe, gpu, known=known), ledger.peak().allocated_bytes)
    if recipe.layout.shards:
        return ledger.peak().allocated_bytes + reserved_beside_bytes(_held(model, recipe))
    buckets = recipe.layout.strategy != "single"
    strategy_bytes = sum(line.bytes for line in ledger.lines if line.name == BUCKETS) if buckets else 0
    beside_bytes = strategy_bytes + sum(line.bytes for line in _beside_lines(model, recipe, gpu) if line.alive_in)
    played_bytes = reserved_bytes(model, recipe, gpu, known=known) + beside_bytes
    # Neither is played: what it took is still reserved when training goes on, and training is made of it.
    takes_turns = recipe.generates or recipe.evaluates
    return max(played_bytes, ledger.peak().allocated_bytes) if takes_turns else played_bytes
