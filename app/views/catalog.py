"""The catalogues to browse: every model and every card, sorted and narrowed, with where its facts come from.

The rest of the address is a plan: each row's link is that plan with the row chosen, and the plan's own row is marked.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.forms.plan_address import query_of_values
from app.forms.plan_form import read_form
from app.templating import page
from app.views.plan_question import EXAMPLE
from planner.catalog import Card, ModelRow, resolve_gpu
from planner.catalog.gpu_rows import gpu_catalog
from planner.catalog.model_rows import model_catalog
from planner.errors import FitproofError
from planner.model.model import config_facts

router = APIRouter(include_in_schema=False)

_LONGEST_QUERY = 200
# What these pages read themselves; everything else in the address is the plan.
_OWN = frozenset({"q", "sort", "size", "family", "licence", "memory", "vendor"})
# Bounds of a size in billions of parameters, and of a card's memory in nominal GB, as people sort them.
SIZES = {"up to 2B": (0, 2), "2B to 5B": (2, 5), "5B to 10B": (5, 10), "10B to 20B": (10, 20), "20B to 50B": (20, 50),
         "over 50B": (50, 10_000)}  # fmt: skip
TIERS = {"up to 8 GB": (0, 8), "10 to 12 GB": (9, 12), "16 GB": (13, 16), "20 to 24 GB": (17, 24),
         "32 to 48 GB": (25, 48), "64 GB and more": (49, 10_000)}  # fmt: skip
_MODEL_KEYS: dict[str, Callable[[ModelRow], Any]] = {
    "name": lambda row: row.id.lower(),
    "size": lambda row: row.params,
    "family": lambda row: (row.model_type, row.params),
}
Item = TypeVar("Item")
_CARD_KEYS: dict[str, Callable[[Card], Any]] = {
    "name": lambda card: card.row.name.lower(),
    "memory": lambda card: (card.gpu.usable_bytes if card.gpu else 0, card.row.name),
    "capability": lambda card: (card.row.capability or (0, 0), card.row.name),
}


@router.get("/models")
async def models(request: Request) -> HTMLResponse:
    """Models that hold every word of `q` and are of that size, family and licence, the most used first."""
    q, sort, size, family, licence = _asked(request, "q", "sort", "size", "family", "licence")
    low, high = SIZES.get(size, (0, 10_000))
    every = model_catalog().search("")
    found = [
        row
        for row in model_catalog().search(q[:_LONGEST_QUERY])
        if low * 10**9 < row.params <= high * 10**9
        and (not family or row.model_type == family)
        and (not licence or row.licence == licence)
    ]
    plan = _plan_values(request)
    ordered = _sorted(found, sort, _MODEL_KEYS)
    rows = [(row, config_facts(row.config), _with(plan, model=row.id, config="")) for row in ordered]
    return page(
        request, "pages/models.html", q=q, rows=rows, here=_model_of(plan), sort=sort, kept=_kept(request),
        chosen={"size": size, "family": family, "licence": licence},
        choices={"size": list(SIZES), "family": sorted({row.model_type for row in every}),
                 "licence": sorted({row.licence for row in every if row.licence})},
    )  # fmt: skip


@router.get("/gpus")
async def gpus(request: Request) -> HTMLResponse:
    """Cards that hold every word of `q` (a cloud machine's name is one) and are of that memory and vendor."""
    q, sort, memory, vendor = _asked(request, "q", "sort", "memory", "vendor")
    low, high = TIERS.get(memory, (0, 10_000))
    found = [
        card
        for card in gpu_catalog().search(q[:_LONGEST_QUERY])
        if (not memory or low <= (card.row.nominal_gb or 0) <= high) and (not vendor or card.row.vendor == vendor)
    ]
    plan = _plan_values(request)
    rows = [(card, _with(plan, gpu=card.row.id, gpu_memory="")) for card in _sorted(found, sort, _CARD_KEYS)]
    return page(
        request, "pages/gpus.html", q=q, rows=rows, here=_card_of(plan), sort=sort, kept=_kept(request),
        chosen={"memory": memory, "vendor": vendor},
        choices={"memory": list(TIERS), "vendor": sorted({card.row.vendor for card in gpu_catalog().cards.values()})},
    )  # fmt: skip


def _asked(request: Request, *names: str) -> list[str]:
    return [request.query_params.get(name, "") for name in names]


def _sorted(rows: Sequence[Item], sort: str, keys: Mapping[str, Callable[[Item], Any]]) -> list[Item]:
    """By the column named, downwards with a leading minus; as found where none is."""
    key = keys.get(sort.removeprefix("-"))
    return sorted(rows, key=key, reverse=sort.startswith("-")) if key else list(rows)


def _kept(request: Request) -> list[tuple[str, str]]:
    """The plan's part of the address."""
    return [(name, value) for name, value in request.query_params.multi_items() if name not in _OWN]


def _plan_values(request: Request) -> dict[str, str]:
    return read_form(_kept(request) or list(EXAMPLE.items())).values


def _with(plan: Mapping[str, str], **part: str) -> str:
    """The plan's address with one part exchanged."""
    return query_of_values({**plan, **part})


def _model_of(plan: Mapping[str, str]) -> str:
    try:
        return model_catalog().find(plan["model"]).id
    except FitproofError:
        return ""


def _card_of(plan: Mapping[str, str]) -> str:
    try:
        return resolve_gpu(plan["gpu"]).id
    except FitproofError:
        return ""
