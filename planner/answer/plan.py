"""The whole story on one screen: a request becomes lines of bytes, lines become phases, phases a verdict."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from planner.answer.card_choice import cards_for
from planner.answer.document import Judged, document_of
from planner.answer.not_planned import NotPlanned, step_unknown, weighed
from planner.answer.planned import Planned
from planner.answer.textbook import Textbook, textbook
from planner.answer.traced_run import TracedRun, cannot_hold
from planner.answer.verdict import Estimate
from planner.answer.warnings import Notice, notices
from planner.answer.ways_to_fit.advice import Advice, advise
from planner.catalog import resolve_gpu
from planner.gpu import Gpu
from planner.lazy_attribute import lazy_attribute
from planner.ledger import Ledger
from planner.model.model import Model, resolve_model
from planner.model.resolved_request import settled
from planner.model.reward_head import for_objective
from planner.overheads.table import are_large
from planner.parallel.flat_units import is_played
from planner.parallel.nccl import communication_band
from planner.parallel.step import UNPROVED_FIELDS, unproved
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.request.unsloth import UNSLOTH
from planner.step.row_sums import counts_multiprocessors
from planner.step.unsloth_numbers import small_card
from planner.tensors.targets import adapted_weights
from planner.throughput.rate import Throughput, throughput
from planner.throughput.work import work_of

# Fields of a request whose effect no formula follows; a file's own keys bear no such names.
_OFFLOADING = "training.activation_offloading"
_AUTOCAST = "stack.autocast"


@dataclass(frozen=True)
class Plan(Planned):
    """The answer to one request: what is planned, and what is to be said of it."""

    @lazy_attribute
    def textbook(self) -> Textbook:
        """The chapter's numbers for this model and these adapters."""
        lora = self.recipe.lora
        if lora is None:
            return textbook(self.model.params)
        weights = adapted_weights(self.model.census, self.model.model_type, lora)
        return textbook(self.model.params, ((w.rows, w.columns, w.count) for w in weights), lora.r)

    @lazy_attribute
    def throughput(self) -> Throughput:
        """Tokens per second, or why no figure can be given."""
        if self.model.decoder is None:
            return Throughput(why_not="the step of this model is not planned")
        work = work_of(self.model, self.model.decoder, self.recipe, self.gpu, self.lines)
        return throughput(work, self.recipe, self.gpu)

    @lazy_attribute
    def warnings(self) -> tuple[Notice, ...]:
        """What surprises people about this plan."""
        return notices(self, self._replan)

    @lazy_attribute
    def advice(self) -> tuple[Advice, ...]:
        """Changes that would make it fit, each planned before it is named; none of them tells without a step."""
        if self.model.decoder is None:
            return ()
        planned = replace(self, not_planned=()) if self.not_planned else self
        advice = advise(planned, self._replan_planned, self._smallest_cards, self._cannot_hold)
        of_the_file = replace(self, not_planned=self._of_the_file)
        return tuple(replace(item, verdict=of_the_file.said(item.verdict)) for item in advice)

    @property
    def _of_the_file(self) -> tuple[NotPlanned, ...]:
        """What the file asked for: it stays in any change; what of the strategy is unproved goes with the strategy."""
        return tuple(item for item in self.not_planned if item.key not in UNPROVED_FIELDS)

    def _smallest_cards(self, request: Request) -> tuple["Plan", ...]:
        alike = request.model_copy(update={"cards": None})
        return smallest_cards(alike, model=self.model, vendor=self.gpu.vendor, not_planned=self._of_the_file)

    def _cannot_hold(self, request: Request) -> bool:
        """Whether the card of this plan is too small for what `request` would have on it throughout."""
        model = _model_of(request, self.model)
        return cannot_hold(model, Recipe.of(settled(request, model)), self.gpu)

    def _replan(self, request: Request) -> "Plan":
        model = self.model if request.model == self.request.model else None
        return plan(request, model=model, gpu=self.gpu, not_planned=self._of_the_file)

    def _replan_planned(self, request: Request) -> "Plan":
        """As if the file had asked for nothing else; a strategy that no dry run has shown is still named."""
        replanned = self._replan(request)
        kept = tuple(item for item in replanned.not_planned if item.key in UNPROVED_FIELDS)
        return replace(replanned, not_planned=kept)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of the public contract (design.md, section 2)."""
        return document_of(self, Judged(self.textbook, self.throughput, self.warnings, self.advice))


def plan(
    request: Request,
    *,
    model: Model | None = None,
    gpu: Gpu | None = None,
    not_planned: Sequence[NotPlanned] = (),
) -> Plan:
    """Answer a request. `model` and `gpu` spare the look-up, or stand for what no catalogue knows.

    `not_planned` is what was asked for beside the request: its least bytes are counted, and the verdict knows of it.
    Of a model of the catalogue whose layers no formula knows, the step is such a thing itself.

    Raises:
        UnknownModelError, UnknownGpuError: the names lead nowhere.
        UnknownArchitectureError: the formulas do not know this kind of model; the dry run may.
        InvalidRequestError: the LoRA targets do not match this model.
    """
    model = _model_of(request, model)
    gpu = gpu or resolve_gpu(request.gpu)
    request = settled(request, model)
    recipe = Recipe.of(request)
    traced = TracedRun.of(model, recipe, gpu)
    return _judge(request, traced.spread.fullest.gpu if traced.spread else gpu, traced, not_planned)


def plan_on_cards(
    request: Request, gpus: Iterable[Gpu], *, model: Model | None = None, not_planned: Sequence[NotPlanned] = ()
) -> Iterator[Plan]:
    """Answers to a request for many cards, one after the other. Cards of one compute capability run the same kernels
    and share one ledger, but for small steps, whose kernels go by the number of multiprocessors.

    Raises:
        FitproofError: as `plan` does.
    """
    model = _model_of(request, model)
    request = settled(request, model)
    recipe = Recipe.of(request)
    traced: dict[tuple[object, ...], TracedRun] = {}
    known: dict[tuple[object, ...], int] = {}
    counts = model.decoder is not None and counts_multiprocessors(model.decoder, recipe)
    for gpu in gpus:
        multiprocessors = gpu.multiprocessors if counts else None
        small = recipe.stack_name == UNSLOTH and small_card(gpu)
        # How layers are spread depends on the room that each card has.
        room_bytes = gpu.usable_bytes if recipe.layout.strategy == "device_map" else None
        kind = (gpu.compute_capability, multiprocessors, gpu.context_bytes, gpu.record, small, room_bytes)
        if kind not in traced:
            traced[kind] = TracedRun.of(model, recipe, gpu, known)
        yield _judge(request.model_copy(update={"gpu": gpu.id}), gpu, traced[kind], not_planned)


def smallest_cards(
    request: Request,
    *,
    model: Model | None = None,
    vendor: str = "NVIDIA",
    count: int = 3,
    not_planned: Sequence[NotPlanned] = (),
) -> tuple[Plan, ...]:
    """The smallest tiers of memory on which the request fits, smallest first, each by one card of this vendor.

    Raises:
        FitproofError: as `plan` does.
    """
    model = _model_of(request, model)
    recipe = Recipe.of(settled(request, model))
    found: dict[float, Plan] = {}

    def worth_planning() -> Iterator[Gpu]:
        """Smallest first, none of a tier that has its card by now, none that the weights alone are too much for."""
        for gpu in cards_for(recipe, vendor):
            if len(found) < count and (gpu.nominal_gb or 0) not in found and not cannot_hold(model, recipe, gpu):
                yield gpu

    for each in plan_on_cards(request, worth_planning(), model=model, not_planned=not_planned):
        if each.planned_verdict == "fits":
            found[each.gpu.nominal_gb or 0] = each
    return tuple(found.values())


def _model_of(request: Request, model: Model | None) -> Model:
    """The model that the request trains, with its objective's head."""
    return for_objective(model or resolve_model(request.model), request.training.objective)


def _with_the_unproved(not_planned: Sequence[NotPlanned], recipe: Recipe) -> list[NotPlanned]:
    """`not_planned`, and this recipe's strategy where no dry run has shown it; another recipe's goes. TRL's offloading
    without checkpointing has no formula, nor have two 16-bit types on several cards or in Unsloth; dry runs play them.
    """
    items = [item for item in not_planned if item.key not in {*UNPROVED_FIELDS, _OFFLOADING, _AUTOCAST}]
    if recipe.training.activation_offloading and not recipe.offloads:
        why = "planned on the card: offloading is followed with checkpointing that is not reentrant, on one card"
        items.append(NotPlanned(key=_OFFLOADING, value=True, why=why, planned="without offloading", saves=True))
    elsewhere = recipe.layout.strategy != "single" or recipe.stack_name == UNSLOTH
    if elsewhere and {recipe.model_dtype, recipe.autocast} == {"bfloat16", "float16"}:
        # On one card and elsewhere than in Unsloth each cast and each sum of both is traced (engine/widths.py).
        why = "torch promotes a sum of bfloat16 and float16 to float32: 15 % more was seen; a dry run plays it"
        items.append(NotPlanned(key=_AUTOCAST, value=recipe.autocast, why=why, planned="as if in one 16-bit type"))
    for found in unproved(recipe):
        items.append(NotPlanned(key=found.field, value=None, why=found.why, planned=found.planned, saves=found.saves))
    return items


def _perhaps_less_bytes(model: Model, recipe: Recipe) -> int:
    """What a tower is counted above its quantized size: bitsandbytes takes its linear layers, too, but no others."""
    quantization = recipe.quantization
    if quantization is None or not (quantization.load_in_4bit or quantization.load_in_8bit):
        return 0
    bits = 4 if quantization.load_in_4bit else 8
    return sum((16 - bits) * group.params // 8 for group in model.census if group.role == "tower")


def _judge(request: Request, gpu: Gpu, traced: TracedRun, not_planned: Sequence[NotPlanned] = ()) -> Plan:
    asked = _with_the_unproved(not_planned, traced.recipe)
    items = weighed((*step_unknown(traced.model), *asked), traced.model, traced.recipe, gpu)
    beside = [line for item in items for line in item.lines]
    ledger = Ledger.of((*traced.ledger.lines, *beside)) if beside else traced.ledger
    phases, training = ledger.phases(), traced.recipe.training
    peak = max(phases, key=lambda phase: phase.allocated_bytes)
    beside_bytes = peak.allocated_bytes - traced.ledger.peak().allocated_bytes if beside else 0
    return Plan(
        request=request,
        model=traced.model,
        gpu=gpu,
        recipe=traced.recipe,
        ledger=ledger,
        phases=phases,
        peak=peak,
        estimate=Estimate(
            peak.allocated_bytes,
            lambda: traced.reserved_bytes() + beside_bytes,
            gpu,
            varying_lengths=training.padded,
            expandable_segments=training.expandable_segments,
            method=request.method,
            perhaps_less_bytes=_perhaps_less_bytes(traced.model, traced.recipe),
            large_pieces=are_large(traced.largest_bytes, peak.allocated_bytes),
            outside=communication_band(traced.recipe.layout),
            several_cards=traced.recipe.layout.strategy != "single",
            spills=traced.spread is not None and traced.spread.on_host > 0,
            frees_across_streams=is_played(traced.recipe),
        ),
        not_planned=items,
        spread=traced.spread,
    )
