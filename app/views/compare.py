"""Side by side: full fine-tuning, LoRA and QLoRA of one model, or any two plans by their addresses."""

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.drawing.card import by_cause
from app.drawing.scale import percent_of
from app.forms.plan_address import pairs_in, query_of_values
from app.forms.plan_form import PlanForm, values_of
from app.templating import fragment, page, wants_fragment
from app.views.answer import Answer
from app.views.messages import CAUSE_NAMES, LABELS, METHOD_NAMES
from app.views.plan_question import ask, pairs_of, question_context
from planner.answer.plan import Plan
from planner.answer.plan import plan as plan_for
from planner.errors import InvalidRequestError
from planner.request.schema import Request as PlanRequest

router = APIRouter(include_in_schema=False)

# As the chapter's table reads: the expensive way first.
_METHODS = ("full", "lora", "qlora")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: causes, their sum, what lies outside torch's tensors, and what is needed, which is both together.

    `reduction` is what is saved against the first column, None for the first. Bars are (start, width) in percent.
    """

    title: str
    plan: Plan
    query: str
    causes: dict[str, int]
    bars: dict[str, tuple[float, float]]
    rest: tuple[float, float]
    reduction: float | None

    @property
    def rest_bytes(self) -> int:
        """The CUDA context and what the allocator keeps."""
        return self.plan.required_bytes.likely - self.plan.peak_allocated_bytes


@router.get("/compare")
async def compare(request: Request) -> HTMLResponse:
    """Three methods for the plan in the address; two plans where it names `a` and `b`."""
    query = request.query_params
    if query.get("a") or query.get("b"):
        return await _two(request, query.get("a", ""), query.get("b", ""))
    form, answer = await ask(request, pairs_of(request))
    context = question_context(form, answer) | {"action": "/compare"}
    if answer:
        context |= {"columns": _methods(answer), "a": f"/plan?{answer.query}", "b": "", "errors": {}, "differences": []}
    status = 200 if answer else 422
    if wants_fragment(request):
        return fragment("partials/compare.html", status, **context)
    return page(request, "pages/compare.html", status, **context)


async def _two(request: Request, a: str, b: str) -> HTMLResponse:
    errors: dict[str, str] = {}
    answers: list[Answer] = []
    for name, address in (("a", a), ("b", b)):
        try:
            form, answer = await ask(request, pairs_in(address))
        except InvalidRequestError as error:
            errors[name] = error.problems[0].message
            continue
        if answer is None:
            errors[name] = _complaint(form)
        else:
            answers.append(answer)
    context: dict[str, Any] = {"a": a, "b": b, "errors": errors, "columns": [], "differences": []}
    if not errors:
        titles = [f"{x.model_name}, {METHOD_NAMES[x.request.method]}, {x.gpu_name}" for x in answers]
        context["columns"] = _columns([(t, x.plan, x.query) for t, x in zip(titles, answers, strict=True)])
        context["differences"] = _differences(answers[0], answers[1])
    context |= {"query": answers[0].query if answers else "", "cause_names": CAUSE_NAMES}
    return page(request, "pages/compare_two.html", 422 if errors else 200, **context)


def _methods(answer: Answer) -> list[Column]:
    asked = []
    for method in _METHODS:
        document = answer.document | {"method": method}
        if method != "qlora":
            document["quantization"] = None
        request = PlanRequest.parse(document)
        plan = plan_for(request, model=answer.model, gpu=answer.gpu, not_planned=answer.imported_without)
        query = query_of_values(answer.control_values(request.model_dump(mode="json")))
        asked.append((METHOD_NAMES[method], plan, query))
    return _columns(asked)


def _columns(asked: list[tuple[str, Plan, str]]) -> list[Column]:
    widest = max(plan.required_bytes.likely for _, plan, _ in asked)
    first = asked[0][1].required_bytes.likely
    columns = []
    for place, (title, plan, query) in enumerate(asked):
        causes = by_cause(plan.lines, plan.peak_phase)
        reduction = 1 - plan.required_bytes.likely / first if place else None
        needed, peak = plan.required_bytes.likely, plan.peak_allocated_bytes
        rest = (percent_of(peak, widest), percent_of(needed - peak, widest))
        columns.append(Column(title, plan, query, causes, _bars(causes, widest), rest, reduction))
    return columns


def _bars(causes: dict[str, int], whole: int) -> dict[str, tuple[float, float]]:
    """Where each cause starts and how wide it is, in percent of the widest column."""
    bars, used = {}, 0
    for cause, size_bytes in causes.items():
        bars[cause] = (percent_of(used, whole), percent_of(size_bytes, whole))
        used += size_bytes
    return bars


def _differences(one: Answer, other: Answer) -> list[tuple[str, str, str]]:
    """Settings that are not the same, by name."""
    left, right = values_of(one.document), values_of(other.document)
    return [(LABELS.get(name, name), left[name], right[name]) for name in left if left[name] != right[name]]


def _complaint(form: PlanForm) -> str:
    return "; ".join(f"{LABELS.get(name, name)}: {message}" for name, message in form.errors.items())
