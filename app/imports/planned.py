"""A pasted file all the way to an answer: understood, planned, and given back with the advice written in."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.imports import Imported, read
from app.planning import Planning
from planner.answer.plan import Plan
from planner.errors import FieldProblem, FitproofError, NotPlannedError
from planner.request.schema import Request


@dataclass(frozen=True, slots=True)
class Edited:
    """The file with one advised change made. `left` are settings of the change that the file has no key for."""

    change: Mapping[str, Any]
    text: str
    left: tuple[str, ...]
    verdict: str


@dataclass(frozen=True, slots=True)
class PlannedImport:
    """What a file became. `request` and `plan` are None where `problems` say what is missing or wrong."""

    imported: Imported
    request: Request | None = None
    plan: Plan | None = None
    problems: tuple[FieldProblem, ...] = ()
    edited: Edited | None = field(default=None)

    def to_dict(self) -> dict[str, Any]:
        """As the API writes it."""
        reading = self.imported.reading
        edited = self.edited
        return {
            "trainer": self.imported.trainer.id,
            "request": self.request.model_dump(mode="json") if self.request else None,
            "recognised": [{"key": x.key, "value": x.value, "field": x.field} for x in reading.recognised],
            "assumed": [{"field": x.field, "value": x.value, "reason": x.reason} for x in reading.assumed],
            "ignored": [{"key": x.key, "reason": x.reason, "matters": x.matters} for x in reading.ignored],
            "contradictions": _problems(reading.contradictions),
            "problems": _problems(self.problems),
            "plan": self.plan.to_dict() if self.plan else None,
            "edited": {
                "change": dict(edited.change),
                "text": edited.text,
                "left": list(edited.left),
                "verdict": edited.verdict,
            }
            if edited
            else None,
        }


async def plan_import(planning: Planning, text: str, *, model: str = "", gpu: str = "") -> PlannedImport:
    """Understand `text` and answer it. A file that is understood but cannot be planned is an answer with problems.

    Raises:
        UnreadableConfigError: the text cannot be read safely, or is no trainer's.
    """
    # YAML is read by a scanner in Python: a third of a second for the worst text that is let in.
    imported = await asyncio.to_thread(read, text, model=model, gpu=gpu)
    try:
        request, plan = await plan_what_has_formulas(planning, imported, imported.document)
    except FitproofError as error:
        problems = error.problems or (FieldProblem("model", error.title),)
        return PlannedImport(imported, problems=tuple(imported.in_the_files_words(problems)))
    return PlannedImport(imported, request, plan, edited=await asyncio.to_thread(_advised, imported, plan))


async def plan_what_has_formulas(
    planning: Planning, imported: Imported, document: dict[str, Any]
) -> tuple[Request, Plan]:
    """The request of `document`, which was read from the file, and its plan; what no formula follows is taken out of
    it, and named as not planned.

    Raises:
        FitproofError: as `Planning.plan` does, where the file's own keys are not what is unknown.
    """
    while True:
        try:
            request = planning.read(document)
            return request, await planning.plan(request, imported.not_planned)
        except NotPlannedError as error:
            if not imported.leave_out(error, document):
                raise


# What another machine, model or trainer would change, not this file.
_ELSEWHERE = {"gpu", "model", "stack"}


def _advised(imported: Imported, plan: Plan) -> Edited | None:
    """The first advised change that the file can hold entirely, or the first it can hold a part of.

    Another card, model or trainer is no edit.
    """
    changes = [(item.to_dict()["change"], item.verdict) for item in plan.advice if not _ELSEWHERE & set(item.change)]
    held = [(len(imported.trainer.edit({}, change)), change, verdict) for change, verdict in changes]
    possible = [(left > 0, change, verdict) for left, change, verdict in held if left < len(change)]
    if not possible:
        return None
    _, change, verdict = min(possible, key=lambda item: item[0])
    text, left = imported.edited(change)
    return Edited(change, text, tuple(left), verdict)


def _problems(problems: Sequence[FieldProblem]) -> list[dict[str, str]]:
    return [{"field": problem.field, "message": problem.message} for problem in problems]
