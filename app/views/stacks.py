"""The same run on each of the stacks, shown where the choice among them changes the verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from app.forms.plan_address import query_of_values
from app.forms.stack_words import CHOICES, PRESETS
from planner.answer.not_planned import NotPlanned
from planner.answer.plan import Plan
from planner.answer.plan import plan as plan_for
from planner.errors import FitproofError
from planner.request.unsloth import on_stack


@dataclass(frozen=True, slots=True)
class StackRow:
    """One stack: its name in words, its plan, the address of that, and whether it is the one asked for."""

    words: str
    plan: Plan
    query: str
    is_here: bool


def stack_rows(
    plan: Plan, not_planned: Sequence[NotPlanned], control_values: Callable[[dict[str, Any]], dict[str, str]]
) -> list[StackRow]:
    """The stacks, the leanest first; none where all of them give one verdict, or where the stack is spelled out.

    `control_values` is every control's text for a document.
    """
    if not isinstance(plan.request.stack, str):
        return []
    plans = {}
    for name in PRESETS:
        try:
            request = on_stack(plan.request, name)
            plans[name] = plan_for(request, model=plan.model, gpu=plan.gpu, not_planned=not_planned)
        except FitproofError:  # a stack that this recipe cannot be run on
            continue
    # Most verdicts are certain before the likely bytes, which take longer.
    if len({other.verdict for other in plans.values()}) <= 1:
        return []
    rows = []
    for name, other in sorted(plans.items(), key=lambda item: item[1].required_bytes.likely):
        values = control_values(other.request.model_dump(mode="json")) | {"stack": name}
        rows.append(StackRow(CHOICES[name], other, query_of_values(values), name == plan.request.stack))
    return rows
