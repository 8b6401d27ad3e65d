"""The map: batch by length for this model and card, and this run on every card. Both in one request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.drawing.heatmap import powers_of_two, shade, with_own
from app.drawing.scale import percent_of
from app.forms.plan_address import queries_varying
from app.templating import fragment, page, wants_fragment
from app.views.answer import Answer
from app.views.messages import short_gpu_name
from app.views.plan_question import ask, pairs_of, question_context
from planner.answer.not_planned import as_planned
from planner.answer.plan import Plan, plan_on_cards
from planner.answer.plan import plan as plan_for
from planner.answer.reach.limits import limits
from planner.catalog.gpu_rows import gpu_catalog
from planner.errors import FieldProblem

router = APIRouter(include_in_schema=False)

LENGTHS = powers_of_two(512, 32_768)
BATCHES = powers_of_two(1, 32)
CELL_WORDS = {"fits": "fits", "tight": "tight", "does_not_fit": "no"}
# The controls that cells, and rows of cards, differ in. A card of the catalogue has its own compute capability.
_SIZES = ("per_device_train_batch_size", "max_length")
_CARD = ("gpu", "gpu_memory", "compute_capability")
_ORDER = {"fits": 0, "tight": 1, "does_not_fit": 2}


@dataclass(frozen=True, slots=True)
class Cell:
    """One square of the map."""

    plan: Plan
    query: str
    is_here: bool

    @property
    def is_beyond(self) -> bool:
        """Whether even the least that it could take is more than the card has."""
        return self.plan.planned_verdict == "does_not_fit"

    @property
    def needed_bytes(self) -> int:
        """What the plan's own page says is likely needed; beyond the card the least, which takes no step played."""
        return self.plan.estimate.lowest_bytes if self.is_beyond else self.plan.required_bytes.likely

    @property
    def shade(self) -> int:
        """How full the card would be, as a class of the stylesheet."""
        return shade(self.needed_bytes, self.plan.usable_bytes)


@dataclass(frozen=True, slots=True)
class CardRow:
    """One card with this run on it. `full_percent` ends at 100. `unable`: bitsandbytes has no 4-bit for this card."""

    plan: Plan
    name: str
    query: str
    full_percent: float
    is_here: bool
    unable: bool

    @property
    def words(self) -> str:
        """What the list's filter looks in: name, vendor and memory."""
        size = f" {self.plan.gpu.nominal_gb:g}gb" if self.plan.gpu.nominal_gb else ""
        return f"{self.plan.gpu.id} {self.plan.gpu.name} {self.plan.gpu.vendor}{size}".lower()


@router.get("/map")
async def map_page(request: Request) -> HTMLResponse:
    """The map of the plan in the address."""
    form, answer = await ask(request, pairs_of(request))
    if answer and answer.model.decoder is None:
        problems = [FieldProblem("model", item.why) for item in answer.plan.not_planned if item.key == "model"]
        form, answer = form.refused(problems), None
    context = question_context(form, answer) | {"action": "/map", "cell_words": CELL_WORDS}
    if answer:
        context |= {"lengths": lengths_for(answer), "rows": heat_map(answer), "cards": cards_view(answer)}
        context["limits"] = limits(answer.request, model=answer.model, gpu=answer.gpu, cards=0)
        context["left_out"] = as_planned(answer.plan.not_planned)
    status = 200 if answer else 422
    if wants_fragment(request):
        return fragment("partials/map.html", status, **context)
    return page(request, "pages/map.html", status, **context)


def lengths_for(answer: Answer) -> tuple[int, ...]:
    """The columns."""
    return with_own(LENGTHS, answer.request.training.max_length)


def heat_map(answer: Answer) -> dict[int, list[Cell]]:
    """A row of cells for each micro-batch."""
    batches = with_own(BATCHES, answer.request.training.per_device_train_batch_size)
    query = queries_varying(answer.values, _SIZES)
    return {batch: [_cell(answer, query, batch, length) for length in lengths_for(answer)] for batch in batches}


def cards_view(answer: Answer) -> list[CardRow]:
    """Every card of the catalogue: what fits first, the smallest of those on top, then the nearest miss."""
    gpus = [card.gpu for card in gpu_catalog().cards.values() if card.gpu]
    plans = list(plan_on_cards(answer.request, gpus, model=answer.model, not_planned=answer.imported_without))
    plans.sort(key=lambda plan: (_is_unable(plan), _ORDER[plan.verdict], _nearest_first(plan), plan.gpu.name))
    query = queries_varying(answer.values, _CARD)
    return [_card_row(answer, query, plan) for plan in plans]


def _is_unable(plan: Plan) -> bool:
    return plan.request.method == "qlora" and not plan.gpu.bitsandbytes_4bit


def _nearest_first(plan: Plan) -> int:
    return plan.usable_bytes if plan.verdict == "fits" else -plan.headroom_bytes


def _cell(answer: Answer, query: Callable[[Mapping[str, str]], str], batch: int, length: int) -> Cell:
    size = dict(zip(_SIZES, (batch, length), strict=True))
    training = answer.request.training.model_copy(update=size)
    request = answer.request.model_copy(update={"training": training})
    plan = plan_for(request, model=answer.model, gpu=answer.gpu, not_planned=answer.imported_without)
    return Cell(
        plan=plan,
        query=query({name: str(value) for name, value in size.items()}),
        is_here=training == answer.request.training,
    )


def _card_row(answer: Answer, query: Callable[[Mapping[str, str]], str], plan: Plan) -> CardRow:
    full = min(percent_of(plan.required_bytes.likely, plan.usable_bytes), 100.0)
    link = query(dict(zip(_CARD, (plan.gpu.id, "", ""), strict=True)))
    return CardRow(plan, short_gpu_name(plan.gpu.name), link, full, plan.gpu.id == answer.gpu.id, _is_unable(plan))
