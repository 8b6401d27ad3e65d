"""Advice made ready for its page: each change in words, under what kind of change it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.forms.plan_address import query_of_values
from app.forms.plan_form import changed
from app.templating import size
from app.views.messages import change_in_words, short_gpu_name
from planner.answer.plan import Plan
from planner.catalog import resolve_gpu
from planner.request.schema import Request

FREE, CUT, SMALLER = "The same training, for nothing", "A cut", "A smaller model"
MORE, OTHER = "More of these cards", "Another card"


@dataclass(frozen=True, slots=True)
class AdviceRow:
    """One change with the link that makes it. `memory`: what it takes less, or what the card has more."""

    words: str
    query: str
    memory: str
    verdict: str
    cost: str


def advice_groups(
    plan: Plan, document: dict[str, Any], control_values: Callable[[dict[str, Any]], dict[str, str]]
) -> dict[str, list[AdviceRow]]:
    """The plan's advice in its own order, by kind. `control_values` is every control's text for a document."""
    before = control_values(document)
    groups: dict[str, list[AdviceRow]] = {}
    for item in plan.advice:
        change = item.to_dict()["change"]
        after = Request.parse(changed(document, change)).model_dump(mode="json")
        values = control_values(after)
        words, memory, cost = change_in_words(change, before, values), f"−{size(item.saves_bytes)}", item.cost
        if "gpu" in change:
            gpu = resolve_gpu(change["gpu"])
            words, cost = short_gpu_name(gpu.name), f"gives torch {size(gpu.usable_bytes)}"
            memory = f"+{size(gpu.usable_bytes - plan.usable_bytes)}"
        row = AdviceRow(words, query_of_values(values), memory, item.verdict, cost)
        groups.setdefault(_kind(change, item.is_free), []).append(row)
    return groups


def _kind(change: Mapping[str, Any], is_free: bool) -> str:
    if "gpu" in change:
        return OTHER
    if "gpus" in change or "deepspeed" in change:
        return MORE
    return SMALLER if "model" in change else FREE if is_free else CUT
