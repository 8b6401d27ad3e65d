"""A plan made ready for its page: pictures, sentences, links."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.drawing.card import CardPicture, by_cause, draw_card, in_order
from app.drawing.timeline import Timeline, draw_timeline
from app.forms import changed, query_of, values_of
from app.templating import gib, size
from app.views.words import CAUSE_NAMES, MOMENTS, change_in_words, short_gpu_name, verdict_sentence
from planner.gpu import Gpu
from planner.ledger import Line
from planner.measurement import Measurement
from planner.model import Model
from planner.plan import Plan
from planner.request import Request

# What planner/memory/weights.py calls the chapter's "quantization constants".
CONSTANTS = frozenset({"quantization statistics", "code tables and offsets"})


@dataclass(frozen=True, slots=True)
class AdviceRow:
    """One change with the link that makes it."""

    words: str
    query: str
    saves_bytes: int
    verdict: str
    cost: str


@dataclass(frozen=True, slots=True)
class SideRow:
    """One quantity as the textbook, our formula, the dry run and the probe have it; None where nobody said."""

    name: str
    note: str
    textbook: int | None
    formula: int | None
    dry_run: int | None = None
    measured: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything the answer's template reads."""

    plan: Plan
    request: Request
    model: Model
    gpu: Gpu
    origin: str
    measurements: tuple[Measurement, ...] = ()
    probing: bool = False

    @property
    def document(self) -> dict[str, Any]:
        """The request, complete, as the API takes it."""
        return self.request.model_dump(mode="json")

    @property
    def query(self) -> str:
        """The shortest address of this plan."""
        return query_of(self.document)

    @property
    def required(self) -> Any:
        """low, likely and high bytes."""
        return self.plan.required_bytes

    @property
    def sentence(self) -> str:
        """The verdict as a sentence."""
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
        """What the sentence leaves out: where the card's figure comes from if nobody measured it."""
        if self.gpu.usable_evidence == "modelled":
            return [f"Nobody has published what torch sees on this card; derived: {self.gpu.usable_source}."]
        return []

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
            rows.append(AdviceRow(words, query_of(document), item.saves_bytes, item.verdict, item.cost))
        return rows

    @property
    def sides(self) -> list[SideRow]:
        """The textbook's three terms beside ours, then the phases as each instrument has them."""
        book = self.plan.textbook
        weights = self._named("weights")
        constants = sum(line.bytes for line in weights if line.name in CONSTANTS)
        adapters = sum(line.bytes for line in self._named("adapters"))
        stored = sum(line.bytes for line in weights)
        return [
            SideRow("Weights", "0.5 N in the textbook", book.weights_bytes, stored - constants),
            SideRow("Quantization constants", "N/64", book.constants_bytes, constants),
            SideRow("Adapters", "2 r (d + k)", book.adapters_bytes, adapters),
            *(self._phase_row(phase.name, phase.allocated_bytes) for phase in self.plan.phases if self._readings),
            SideRow(
                "Peak, allocated",
                "the textbook stops before the step",
                book.total_bytes,
                self.plan.peak_allocated_bytes,
                self.dry_run.peak_allocated_bytes if self.dry_run else None,
                self.measured.peak_allocated_bytes if self.measured else None,
            ),
        ]

    @property
    def dry_run(self) -> Measurement | None:
        """The newest dry run of exactly this plan."""
        return next((m for m in self.measurements if m.instrument == "dry-run" and m.outcome == "ok"), None)

    @property
    def measured(self) -> Measurement | None:
        """The newest real run of exactly this plan, on a GPU before one on a processor."""
        real = [m for m in self.measurements if m.instrument != "dry-run" and m.outcome == "ok"]
        return next((m for m in real if m.instrument == "cuda"), real[0] if real else None)

    @property
    def _readings(self) -> list[Measurement]:
        return [reading for reading in (self.dry_run, self.measured) if reading]

    def _phase_row(self, name: str, allocated_bytes: int) -> SideRow:
        dry, real = _phase_bytes(self.dry_run, name), _phase_bytes(self.measured, name)
        return SideRow(name.capitalize(), "phase", None, allocated_bytes, dry, real)

    @property
    def copies(self) -> dict[str, str]:
        """The plan as text to paste elsewhere."""
        asked = self.request.model_dump(mode="json", exclude_defaults=True)
        compact = json.dumps(asked)
        return {
            "Link": f"{self.origin}/plan?{self.query}",
            "curl": f"curl -sS {self.origin}/api/v1/plans \\\n  -H 'Content-Type: application/json' \\\n"
            f"  -d {_shell_quoted(compact)}",
            "Command line": f"fitproof plan --request - <<'JSON'\n{json.dumps(asked, indent=2)}\nJSON",
            "Python": _python(asked),
        }

    def _named(self, cause: str) -> list[Line]:
        """Lines of one cause that stay for the whole step."""
        return [line for line in self.plan.lines if line.cause == cause and "optimizer" in line.alive_in]


def _phase_bytes(reading: Measurement | None, name: str) -> int | None:
    phases = reading.phases if reading else ()
    return next((phase.peak_allocated_bytes for phase in phases if phase.name == name), None)


def _shell_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _python(asked: Mapping[str, Any]) -> str:
    return (
        "from planner.plan import plan\nfrom planner.request import Request\n\n"
        f"answer = plan(Request.parse({dict(asked)!r}))\n"
        "print(answer.verdict, answer.headroom_bytes)"
    )
