"""A plan made ready for its page: pictures, sentences, links."""

from dataclasses import dataclass
from typing import Any

from app.drawing.bars import Bars
from app.drawing.card import CardPicture, by_cause, draw_card, in_order
from app.drawing.timeline import Timeline, draw_timeline
from app.forms import left_out_keys
from app.forms.plan_address import query_of_values
from app.forms.plan_form import values_of
from app.templating import gib, size
from app.views.advice_rows import AdviceRow, advice_groups
from app.views.messages import (
    CAUSE_NAMES,
    MOMENTS,
    fills_the_card,
    reading_sentence,
    remainder_sentence,
    short_gpu_name,
    verdict_sentence,
)
from app.views.pictures.passes import draw_passes, passes_in_words
from app.views.pictures.ranks import draw_ranks, words_of
from app.views.share import copies
from app.views.stacks import StackRow, stack_rows
from app.views.textbook_beside import TextbookRow, newest_of_each, textbook_rows
from planner.answer.not_planned import NotPlanned, as_planned
from planner.answer.plan import Plan
from planner.gpu import Gpu
from planner.lazy_attribute import lazy_attribute
from planner.ledger import Line
from planner.measurement import Measurement
from planner.model.model import Model
from planner.request.schema import Request
from planner.throughput.length import ValueRange, cost_of, hours_of


@dataclass(frozen=True)
class Answer:
    """Everything the answer's template reads.

    `imported_without`: what the plan's file asks for beside the request. `trainer`: the one that was named in place of
    a preset of the stack.
    """

    plan: Plan
    request: Request
    model: Model
    gpu: Gpu
    origin: str
    measurements: tuple[Measurement, ...] = ()
    probing: bool = False
    imported_without: tuple[NotPlanned, ...] = ()
    trainer: str = ""

    @lazy_attribute
    def document(self) -> dict[str, Any]:
        """The request, complete, as the API takes it."""
        return self.request.model_dump(mode="json")

    @lazy_attribute
    def query(self) -> str:
        """The shortest address of this plan."""
        return query_of_values(self.values)

    @lazy_attribute
    def values(self) -> dict[str, str]:
        """Every control's text, and what the plan's file asks for beside them."""
        return self.control_values(self.document)

    def control_values(self, document: dict[str, Any]) -> dict[str, str]:
        """Every control's text for a document beside this one, in the words this plan was asked in."""
        beside = {left_out_keys.NAME: left_out_keys.written(self.imported_without)}
        if self.trainer and document["stack"] == self.document["stack"]:
            beside["stack"] = self.trainer
        return values_of(document) | beside

    @property
    def required(self) -> Any:
        """low, likely and high bytes."""
        return self.plan.required_bytes

    @property
    def sentence(self) -> str:
        """The verdict as a sentence. What was not planned is part of it."""
        plan = self.plan
        if plan.not_planned:
            planned = as_planned(plan.not_planned)
            return remainder_sentence(plan.verdict, plan.planned_verdict, plan.headroom_bytes, planned)
        worst = self.plan.usable_bytes - self.required.high
        return verdict_sentence(self.plan.verdict, self.plan.headroom_bytes, worst)

    @property
    def model_name(self) -> str:
        """The model without its publisher."""
        return self.model.id.rpartition("/")[2]

    @property
    def gpu_name(self) -> str:
        """The card as people say it, with its article."""
        name = short_gpu_name(self.gpu.name)
        return f"{'an' if name[:1] in 'AEFHILMNORSX8' else 'a'} {name}"

    @property
    def when(self) -> str:
        """The moment of the peak."""
        return MOMENTS.get(self.plan.peak_phase, self.plan.peak_phase)

    @property
    def notes(self) -> list[str]:
        """What the sentence leaves out: what instruments read, and a card's figure that was not measured."""
        notes = [
            reading_sentence(reading, self.plan.peak_allocated_bytes) for reading in newest_of_each(self.measurements)
        ]
        if self.plan.verdict != "does_not_fit" and fills_the_card(self.plan.headroom_bytes):
            least = gib(self.plan.smallest_bytes)
            notes.append(f"Torch keeps the blocks it frees as long as there is room. It likely survives with {least}.")
        if self.gpu.usable_evidence == "modelled":
            notes.append(f"Nobody has published what torch sees on this card; derived: {self.gpu.usable_source}.")
        return notes

    @property
    def card(self) -> CardPicture:
        """The bar."""
        band = (self.required.low, self.required.likely, self.required.high)
        return draw_card(self.plan.lines, self.plan.peak_phase, self.plan.usable_bytes, band)

    @property
    def timeline(self) -> Timeline:
        """The step."""
        return draw_timeline(self.plan.lines, self.plan.peak_phase, self.plan.usable_bytes)

    @property
    def hours(self) -> ValueRange | None:
        """For as many tokens as were asked about."""
        return hours_of(self.request.tokens, self.plan.throughput)

    @property
    def cost(self) -> ValueRange | None:
        """Of these hours, of all cards."""
        return cost_of(self.hours, self.request.price_per_hour, self.request.gpus)

    @property
    def ranks(self) -> Bars:
        """What each of several cards holds."""
        return draw_ranks(self.plan)

    @property
    def rank_words(self) -> dict[str, str]:
        """What its parts are called."""
        return words_of(self.plan)

    @property
    def passes(self) -> Bars:
        """The peak of preference training with and without its reference."""
        return draw_passes(self.plan)

    @property
    def passes_in_words(self) -> list[str]:
        """The passes of one micro-batch."""
        return passes_in_words(self.plan.recipe)

    @property
    def causes(self) -> dict[str, int]:
        """Bytes by cause at the peak."""
        return by_cause(self.plan.lines, self.plan.peak_phase)

    @property
    def ledger(self) -> dict[str, list[tuple[int, Line]]]:
        """The lines of the peak by cause, the largest first. They add up to what is allocated then."""
        groups: dict[str, list[tuple[int, Line]]] = {}
        for index, line in in_order(self.plan.lines, self.plan.peak_phase):
            groups.setdefault(line.cause, []).append((index, line))
        return groups

    @property
    def elsewhere(self) -> list[tuple[int, Line]]:
        """The lines of other moments, and what lives outside torch."""
        peak = self.plan.peak_phase
        return [(index, line) for index, line in enumerate(self.plan.lines) if peak not in line.alive_in]

    @property
    def card_in_words(self) -> str:
        """The bar, for those who do not see it."""
        parts = ", ".join(f"{CAUSE_NAMES[cause].lower()} {size(amount)}" for cause, amount in self.causes.items())
        return f"{gib(self.required.likely)} of {gib(self.plan.usable_bytes)} used {self.when}: {parts}."

    @property
    def timeline_in_words(self) -> str:
        """The step, for those who do not see it."""
        return ", ".join(f"{phase.name} {gib(phase.allocated_bytes)}" for phase in self.plan.phases) + "."

    @property
    def advice(self) -> dict[str, list[AdviceRow]]:
        """Each change in words with the link that makes it, under what kind of change it is."""
        return advice_groups(self.plan, self.document, self.control_values)

    @property
    def stacks(self) -> list[StackRow]:
        """The same run on each stack, where that changes the verdict."""
        return stack_rows(self.plan, self.imported_without, self.control_values)

    @property
    def textbook_beside(self) -> list[TextbookRow]:
        """The textbook, the formulas and the instruments beside each other."""
        return textbook_rows(self.plan, self.measurements)

    @property
    def copies(self) -> dict[str, str]:
        """The plan as text to paste elsewhere."""
        asked = self.request.model_dump(mode="json", exclude_defaults=True)
        return copies(self.origin, self.query, asked)
