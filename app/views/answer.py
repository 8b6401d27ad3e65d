"""A plan made ready for its page: pictures, sentences, links."""

from dataclasses import dataclass
from typing import Any

from app import imported_remainder
from app.drawing.card import CardPicture, by_cause, draw_card, in_order
from app.drawing.timeline import Timeline, draw_timeline
from app.forms import changed, query_of_values, values_of
from app.templating import gib, size
from app.views.copies import copies
from app.views.messages import (
    CAUSE_NAMES,
    MOMENTS,
    change_in_words,
    fills_the_card,
    reading_sentence,
    remainder_sentence,
    short_gpu_name,
    verdict_sentence,
)
from app.views.sides import SideRow, newest_of_each, side_rows
from planner.answer.not_planned import NotPlanned, as_planned
from planner.answer.plan import Plan
from planner.gpu import Gpu
from planner.ledger import Line
from planner.measurement import Measurement
from planner.model.model import Model
from planner.request.schema import Request


@dataclass(frozen=True, slots=True)
class AdviceRow:
    """One change with the link that makes it."""

    words: str
    query: str
    saves_bytes: int
    verdict: str
    cost: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything the answer's template reads. `imported_without`: what the plan's file asks for beside the request."""

    plan: Plan
    request: Request
    model: Model
    gpu: Gpu
    origin: str
    measurements: tuple[Measurement, ...] = ()
    probing: bool = False
    imported_without: tuple[NotPlanned, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """The request, complete, as the API takes it."""
        return self.request.model_dump(mode="json")

    @property
    def query(self) -> str:
        """The shortest address of this plan."""
        return query_of_values(self.values)

    @property
    def values(self) -> dict[str, str]:
        """Every control's text, and what the plan's file asks for beside them."""
        return self._told(self.document)

    def _told(self, document: dict[str, Any]) -> dict[str, str]:
        return values_of(document) | {imported_remainder.NAME: imported_remainder.written(self.imported_without)}

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
        """What the sentence leaves out: what instruments read, and a card's figure that nobody measured."""
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
    def advice(self) -> list[AdviceRow]:
        """Each change in words with the link that makes it."""
        before = values_of(self.document)
        rows = []
        for item in self.plan.advice:
            document = Request.parse(changed(self.document, item.to_dict()["change"])).model_dump(mode="json")
            words = change_in_words(item.to_dict()["change"], before, values_of(document))
            query = query_of_values(self._told(document))
            rows.append(AdviceRow(words, query, item.saves_bytes, item.verdict, item.cost))
        return rows

    @property
    def sides(self) -> list[SideRow]:
        """The textbook, the formulas and the instruments beside each other."""
        return side_rows(self.plan, self.measurements)

    @property
    def copies(self) -> dict[str, str]:
        """The plan as text to paste elsewhere."""
        asked = self.request.model_dump(mode="json", exclude_defaults=True)
        return copies(self.origin, self.query, asked)
