"""The guide: the QLoRA chapter as one page, with the arithmetic of the model at hand."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.drawing.nf4 import draw_nf4
from app.forms.plan_form import changed, query_of
from app.templating import fragment, page, size, wants_fragment
from app.views.answer import Answer
from app.views.messages import short_gpu_name
from app.views.plan_question import ask, pairs_of, question_context
from app.views.textbook_beside import CONSTANTS
from planner.answer.plan import Plan
from planner.answer.plan import plan as plan_for
from planner.answer.textbook import EXAMPLE_LENGTH, EXAMPLE_TABLE, EXPLANATION, OwnNumbers, example_rows, exercise
from planner.ledger import Line
from planner.request.schema import Request as PlanRequest
from planner.tensors.targets import adapted_weights

router = APIRouter(include_in_schema=False)

# bitsandbytes optim/optimizer.py, get_state_buffer: smaller tensors stay in device memory.
PAGED_FROM_ELEMENTS = 100_000
_NF4 = draw_nf4()
# One card for each of the chapter's tiers.
TODAY = (
    "Qwen/Qwen3-4B", "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-14B", "mistralai/Mistral-Small-24B-Instruct-2501",
    "google/gemma-3-27b-it", "Qwen/Qwen3-32B", "meta-llama/Llama-3.3-70B-Instruct",
)  # fmt: skip
TIERS = {"12 GB": "rtx-3060-12gb", "24 GB": "rtx-4090", "48 GB": "rtx-6000-ada"}


@dataclass(frozen=True, slots=True)
class Adapted:
    """One shape of adapted weight: elements of its two matrices at this rank, and whether each is paged."""

    name: str
    rows: int
    columns: int
    a_elements: int
    b_elements: int
    a_paged: bool
    b_paged: bool


@dataclass(frozen=True, slots=True)
class TierCell:
    """One model size on one tier."""

    plan: Plan
    query: str


@router.get("/guide")
async def guide(request: Request) -> HTMLResponse:
    """The chapter, with the numbers of the plan in the address."""
    form, answer = await ask(request, pairs_of(request))
    context = question_context(form, answer) | {"action": "/guide", "said": "Not answered.", "nf4": _NF4}
    if answer:
        context |= _arithmetic(answer)
    status = 200 if answer else 422
    if wants_fragment(request):
        return fragment("partials/guide_numbers.html", status, **context)
    context |= {"exercise": exercise(), "explanation": EXPLANATION, "length": EXAMPLE_LENGTH}
    context |= {"examples": examples(), "tiers": tiers(), "tier_names": tier_names()}
    return page(request, "pages/guide.html", status, **context)


def _arithmetic(answer: Answer) -> dict[str, Any]:
    """The chapter's steps for one model: as it stands, with and without double quantization."""
    document = answer.document | {"method": "qlora", "quantization": None}
    doubled = _plan(answer, document)
    single = _plan(answer, changed(doubled.request.model_dump(mode="json"), _SINGLE))
    rank = answer.request.lora.r
    weights = adapted_weights(answer.model.census, answer.model.model_type, answer.request.lora)
    paged = size(doubled.paged_bytes) if doubled.paged_bytes else "nothing"
    return {
        "said": f"{answer.model_name} at rank {rank}: {paged} of the optimizer’s state can leave the card.",
        "doubled": doubled,
        "constants": {"double": _constants(doubled.lines), "single": _constants(single.lines)},
        "weights": [line for line in doubled.lines if line.cause == "weights" and "backward" in line.alive_in],
        "rank": rank,
        "adapted": list(dict.fromkeys(_adapted(w.name, w.rows, w.columns, rank) for w in weights)),
        "paged_from": PAGED_FROM_ELEMENTS,
    }


_SINGLE = {"quantization.bnb_4bit_use_double_quant": False}


def _plan(answer: Answer, document: dict[str, Any]) -> Plan:
    return plan_for(PlanRequest.parse(document), model=answer.model, gpu=answer.gpu)


def _constants(lines: Iterable[Line]) -> int:
    return sum(line.bytes for line in lines if line.name in CONSTANTS)


def _adapted(name: str, rows: int, columns: int, rank: int) -> Adapted:
    a, b = rank * columns, rank * rows
    short = name.rpartition("*.")[2].removesuffix(".weight")
    return Adapted(short, rows, columns, a, b, a >= PAGED_FROM_ELEMENTS, b >= PAGED_FROM_ELEMENTS)


@lru_cache(maxsize=1)
def examples() -> tuple[OwnNumbers, ...]:
    """The chapter's table with our numbers. The same on every visit, so worked out once."""
    return example_rows(plan_for)


@lru_cache(maxsize=1)
def tiers() -> dict[str, list[TierCell]]:
    """The chapter's model sizes and models of today on a card of each tier, at batch 1 and the example's length."""
    sizes: dict[str, str | dict[str, Any]] = {f"Llama {row.size}": row.model for row in EXAMPLE_TABLE}
    names = sizes | {model.partition("/")[2]: model for model in TODAY}
    return {name: [_tier_cell(model, gpu) for gpu in TIERS.values()] for name, model in names.items()}


def tier_names() -> dict[str, str]:
    """Each tier with the name of the card that stands for it."""
    cells = next(iter(tiers().values()))
    return {tier: short_gpu_name(cell.plan.gpu.name) for tier, cell in zip(TIERS, cells, strict=True)}


def _tier_cell(model: str | dict[str, Any], gpu: str) -> TierCell:
    request = PlanRequest.parse({"model": model, "gpu": gpu, "training": {"max_length": EXAMPLE_LENGTH}})
    return TierCell(plan_for(request), query_of(request.model_dump(mode="json")))
