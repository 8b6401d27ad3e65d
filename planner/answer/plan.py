"""The whole story on one screen: a request becomes lines of bytes, lines become phases, phases a verdict."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from planner.answer.advice import Advice, advise
from planner.answer.document import document_of
from planner.answer.not_planned import NotPlanned, step_unknown, weighed
from planner.answer.reserved_bytes import reserved_bytes
from planner.answer.static_lines import static_lines
from planner.answer.textbook import Textbook, textbook
from planner.answer.verdict import Estimate, Required, Verdict
from planner.answer.warnings import Notice, notices
from planner.catalog import resolve_gpu
from planner.catalog.gpu_rows import gpu_catalog
from planner.errors import UnknownArchitectureError
from planner.gpu import CardRecord, Gpu
from planner.lazy_attribute import lazy_attribute
from planner.ledger import Ledger, Line, Phase
from planner.memory.runtime import runtime_lines
from planner.model.model import Model, resolve_model
from planner.model.quantized_checkpoint import on_card
from planner.model.resolved_request import settled
from planner.overheads.ranges import card_context_band
from planner.overheads.table import are_large
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.step import largest_bytes, step_lines
from planner.tensors.targets import adapted_weights
from planner.units import format_gib


@dataclass(frozen=True)
class Plan:
    """The answer to one request. What takes longer than the ledger is worked out when it is first read.

    `not_planned`: what the file behind the request asks for beside it, and no formula here plans.
    """

    request: Request
    model: Model
    gpu: Gpu
    recipe: Recipe
    ledger: Ledger
    phases: tuple[Phase, ...]
    peak: Phase
    estimate: Estimate
    not_planned: tuple[NotPlanned, ...] = ()

    @property
    def peak_allocated_bytes(self) -> int:
        """What torch.cuda.max_memory_allocated() would read."""
        return self.peak.allocated_bytes

    @property
    def peak_phase(self) -> str:
        """The moment of the peak."""
        return self.peak.name

    @property
    def lines(self) -> tuple[Line, ...]:
        """Every cause of bytes."""
        return self.ledger.lines

    @lazy_attribute
    def planned_verdict(self) -> Verdict:
        """Fits, tight or does_not_fit, of what is planned and what is known to lie beside it."""
        return self.estimate.verdict()

    @property
    def verdict(self) -> Verdict:
        """As `planned_verdict`, but never fits where something that moves memory was not planned.

        Nor does a no stand where what was left out may save memory.
        """
        return self._said(self.planned_verdict)

    @lazy_attribute
    def required_bytes(self) -> Required:
        """What the process takes on this card."""
        return self.estimate.required()

    @property
    def smallest_bytes(self) -> int:
        """The smallest capacity likely to survive: what changes are compared by."""
        return self.estimate.smallest_bytes

    @property
    def usable_bytes(self) -> int:
        """What the driver gives torch on this card."""
        return self.gpu.usable_bytes

    @property
    def headroom_bytes(self) -> int:
        """Usable less likely; negative where it does not fit."""
        return self.usable_bytes - self.required_bytes.likely

    @property
    def paged_bytes(self) -> int:
        """Optimizer state that the driver keeps in host memory until it is needed."""
        return sum(line.bytes for line in self.lines if line.cause == "optimizer" and not line.alive_in)

    @lazy_attribute
    def textbook(self) -> Textbook:
        """The chapter's numbers for this model and these adapters."""
        lora = self.recipe.lora
        if lora is None:
            return textbook(self.model.params)
        weights = adapted_weights(self.model.census, self.model.model_type, lora)
        return textbook(self.model.params, ((w.rows, w.columns, w.count) for w in weights), lora.r)

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
        advice = advise(planned, self._replan_planned, self._smallest_cards)
        return tuple(replace(item, verdict=self._said(item.verdict)) for item in advice)

    def _said(self, verdict: Verdict) -> Verdict:
        if verdict == "does_not_fit":
            return "tight" if any(item.saves for item in self.not_planned) else verdict
        return "tight" if self.not_planned else verdict

    def _smallest_cards(self, request: Request) -> tuple["Plan", ...]:
        return smallest_cards(request, model=self.model, vendor=self.gpu.vendor, not_planned=self.not_planned)

    def _replan(self, request: Request) -> "Plan":
        return plan(request, model=self.model, gpu=self.gpu, not_planned=self.not_planned)

    def _replan_planned(self, request: Request) -> "Plan":
        return replace(self._replan(request), not_planned=())

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of the public contract (design.md, section 2)."""
        return document_of(self)


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
    model = model or resolve_model(request.model)
    gpu = gpu or resolve_gpu(request.gpu)
    request = settled(request, model)
    recipe = Recipe.of(request)
    return _judge(request, gpu, _Walked.of(model, recipe, gpu), not_planned)


def plan_on_cards(
    request: Request, gpus: Iterable[Gpu], *, model: Model | None = None, not_planned: Sequence[NotPlanned] = ()
) -> list[Plan]:
    """Answer a request for many cards. Cards of one compute capability run the same kernels and share one ledger.

    Raises:
        FitproofError: as `plan` does.
    """
    model = model or resolve_model(request.model)
    request = settled(request, model)
    recipe = Recipe.of(request)
    walked: dict[tuple[tuple[int, int] | None, int | None, CardRecord | None], _Walked] = {}
    plans = []
    for gpu in gpus:
        kind = (gpu.compute_capability, gpu.context_bytes, gpu.record)
        if kind not in walked:
            walked[kind] = _Walked.of(model, recipe, gpu)
        plans.append(_judge(request.model_copy(update={"gpu": gpu.id}), gpu, walked[kind], not_planned))
    return plans


def smallest_cards(
    request: Request,
    *,
    model: Model | None = None,
    vendor: str = "NVIDIA",
    count: int = 3,
    not_planned: Sequence[NotPlanned] = (),
) -> tuple[Plan, ...]:
    """The catalogue's smallest cards of one vendor on which the request fits, smallest first.

    Raises:
        FitproofError: as `plan` does.
    """
    quantized = request.method == "qlora"
    cards = (card.gpu for card in gpu_catalog().cards.values())
    same = (gpu for gpu in cards if gpu is not None and gpu.vendor == vendor)
    gpus = [gpu for gpu in same if gpu.bitsandbytes_4bit or not quantized]
    plans = plan_on_cards(request, gpus, model=model, not_planned=not_planned)
    fitting = [p for p in plans if p.planned_verdict == "fits"]
    return tuple(sorted(fitting, key=lambda p: (p.usable_bytes, p.gpu.id))[:count])


def ledger_of(model: Model, recipe: Recipe, gpu: Gpu) -> Ledger:
    """Every line of a run: what is there throughout, what a step makes if it is known, what CUDA takes."""
    context = card_context_band(gpu)
    try:
        step = step_lines(model.decoder, recipe, gpu) if model.decoder else ()
    except NotImplementedError as error:  # the family is known, this way of running it is not
        title = f"The formulas cannot plan this: {error}. The dry run may: fitproof probe --on dry-run"
        raise UnknownArchitectureError(f"{title}. {_certain(model, recipe, gpu)}", dry_run=True) from None
    lines: Sequence[Line] = (
        *static_lines(model, recipe),
        *step,
        *runtime_lines(gpu.compute_capability, context_bytes=round(context.likely), context_source=context.source),
    )
    return Ledger.of(lines)


def _certain(model: Model, recipe: Recipe, gpu: Gpu) -> str:
    """What is known of a run whose step is not: the tensors that are there throughout."""
    ledger = Ledger.of(static_lines(model, recipe))
    least_bytes = next(phase.allocated_bytes for phase in ledger.phases() if phase.name == "forward")
    end = "it does not fit" if least_bytes > gpu.usable_bytes else "a step comes on top"
    return (
        f"For certain: weights, adapters and optimizer state take {format_gib(least_bytes)} of the "
        f"{format_gib(gpu.usable_bytes)} that {gpu.name} gives torch; {end}"
    )


@dataclass(frozen=True, slots=True)
class _Walked:
    """What all cards of one kind share. The replay for reserved bytes is played once, when it is first needed."""

    model: Model
    recipe: Recipe
    ledger: Ledger
    reserved_bytes: Callable[[], int]
    largest_bytes: int

    @classmethod
    def of(cls, model: Model, recipe: Recipe, gpu: Gpu) -> "_Walked":
        recipe = on_card(recipe, gpu)
        ledger = ledger_of(model, recipe, gpu)
        if model.decoder is None:
            return cls(model, recipe, ledger, lambda: ledger.peak().allocated_bytes, 0)
        largest = largest_bytes(model.decoder, recipe, gpu)
        return cls(model, recipe, ledger, cache(lambda: reserved_bytes(model, recipe, gpu)), largest)


def _judge(request: Request, gpu: Gpu, walked: _Walked, not_planned: Sequence[NotPlanned] = ()) -> Plan:
    items = weighed((*step_unknown(walked.model), *not_planned), walked.model, walked.recipe, gpu)
    beside = [line for item in items for line in item.lines]
    ledger = Ledger.of((*walked.ledger.lines, *beside)) if beside else walked.ledger
    phases, training = ledger.phases(), walked.recipe.training
    peak = max(phases, key=lambda phase: phase.allocated_bytes)
    beside_bytes = peak.allocated_bytes - walked.ledger.peak().allocated_bytes if beside else 0
    return Plan(
        request=request,
        model=walked.model,
        gpu=gpu,
        recipe=walked.recipe,
        ledger=ledger,
        phases=phases,
        peak=peak,
        estimate=Estimate(
            peak.allocated_bytes,
            lambda: walked.reserved_bytes() + beside_bytes,
            gpu,
            varying_lengths=training.padded,
            expandable_segments=training.expandable_segments,
            method=request.method,
            large_pieces=are_large(walked.largest_bytes, peak.allocated_bytes),
        ),
        not_planned=items,
    )
