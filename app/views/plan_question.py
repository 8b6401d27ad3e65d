"""From a query string to an answer: read the form, resolve the names, plan. Errors come back at their controls."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from fastapi import Request as HttpRequest

from app.compute.questions import Facts
from app.forms import stack_words
from app.forms.fields import DEFAULTS
from app.forms.plan_address import query_of_values
from app.forms.plan_form import PlanForm, read_form
from app.planning import Planning
from app.views.answer import Answer
from app.views.messages import CAUSE_NAMES, LABELS, for_the_form
from app.views.pictures import passes, ranks
from app.views.suggestions import matches
from planner.answer.plan import plan as plan_for
from planner.errors import FieldProblem, FitproofError, InvalidRequestError, UnknownArchitectureError
from planner.ledger import PHASES

_CATALOGUES = (("model", "models"), ("gpu", "gpus"))
_MEANT = 5
EXAMPLE = {"model": "meta-llama/Llama-3.1-8B", "gpu": "rtx-4090"}


async def ask(http: HttpRequest, pairs: Iterable[tuple[str, str]]) -> tuple[PlanForm, Answer | None]:
    """Answer the plan that `pairs` describe; without a usable plan, the form with each problem at its control."""
    form = read_form(pairs)
    planning: Planning = http.app.state.planning
    try:
        request = planning.read(form.document)
        model, gpu = await planning.subjects(request)
        trainer = stack_words.trainer_named(form.values["stack"])
        request = stack_words.as_trained(request, trainer, model)
        if form.errors:
            return form, None
        measurements = facts_of(http).measurements(request)
        plan = plan_for(request, model=model, gpu=gpu, not_planned=form.not_planned)
    except UnknownArchitectureError as error:
        problems = error.problems or [FieldProblem("model", error.title)]
        return replace(form.refused(problems), needs_dry_run=error.dry_run and not form.errors and _probes(http)), None
    except FitproofError as error:
        return form.refused(error.problems or [FieldProblem("model", error.title)]), None
    return form, Answer(
        plan=plan,
        request=request,
        model=model,
        gpu=gpu,
        origin=origin(http),
        measurements=measurements,
        probing=_probes(http),
        imported_without=form.not_planned,
        trainer=trainer,
    )


def _probes(http: HttpRequest) -> bool:
    """Whether probes can be ordered here."""
    return facts_of(http).probing


def facts_of(http: HttpRequest) -> Facts:
    """What the server knows for this request."""
    facts: Facts = http.app.state.facts
    return facts


async def ask_or_raise(http: HttpRequest, pairs: Iterable[tuple[str, str]]) -> Answer:
    """Answer the plan, for doors without a form.

    Raises:
        FitproofError: as the JSON API would.
    """
    form, answer = await ask(http, pairs)
    if answer is None:
        problems = [FieldProblem(name, message) for name, message in form.errors.items()]
        raise InvalidRequestError("The plan in this address cannot be used.", problems)
    return answer


def pairs_of(http: HttpRequest) -> list[tuple[str, str]]:
    """The query string's pairs; the example's where there are none."""
    return http.query_params.multi_items() or list(EXAMPLE.items())


def origin(http: HttpRequest) -> str:
    """`https://host`, as the visitor sees this server."""
    return f"{http.url.scheme}://{http.url.netloc}"


def question_context(form: PlanForm, answer: Answer | None) -> dict[str, Any]:
    """What every page that shows the question needs."""
    return {
        "action": "/plan",
        "form": replace(form, errors={name: for_the_form(name, text) for name, text in form.errors.items()}),
        "answer": answer,
        "query": answer.query if answer else form.query,
        "defaults": DEFAULTS,
        "labels": LABELS,
        "stack_choices": list(stack_words.CHOICES.items()),
        "cause_names": CAUSE_NAMES,
        "phases": PHASES,
        "rank_colours": ranks.COLOURS,
        "pass_words": passes.WORDS,
        "pass_colours": passes.COLOURS,
        "meant": {} if answer else _meant(form),
    }


def _meant(form: PlanForm) -> dict[str, list[tuple[str, str]]]:
    """For an unknown name: what it may have meant, each with the address of the plan that it would be."""
    unknown = [(name, kind) for name, kind in _CATALOGUES if name in form.errors and form.values[name]]
    return {
        name: [
            (found, query_of_values(form.values | {name: found}))
            for found, _ in matches(kind, form.values[name], _MEANT)
        ]
        for name, kind in unknown
    }
