"""A request spelled as a query string, for the doors of the API that are addresses."""

from collections.abc import Iterable
from typing import Any

from app.forms import left_out_keys
from app.forms.fields import FIELDS
from app.forms.plan_form import PlanForm, field_at, read_form
from app.planning import Planning
from planner.errors import FieldProblem, InvalidRequestError
from planner.request.schema import Request
from planner.request.validation.messages import MOST_PROBLEMS, UNKNOWN_KEY


def read_query(planning: Planning, pairs: Iterable[tuple[str, str]]) -> Request:
    """Build the request that the pairs spell out, in the names of the site's own addresses.

    Raises:
        InvalidRequestError: names every bad parameter at once.
    """
    form = read_form(pairs)
    unread = _of_form(form)
    written = {problem.field for problem in unread}
    try:
        return planning.read(form.document, unread)
    except InvalidRequestError as error:
        named: dict[str, FieldProblem] = {}
        for problem in error.problems:
            name = problem.field if problem.field in written else field_at(problem.field)
            named.setdefault(name, FieldProblem(name, problem.message))
        raise InvalidRequestError(_TITLE, list(named.values())) from None


def query_parameters() -> list[dict[str, Any]]:
    """The OpenAPI description of those names."""
    return [
        {
            "name": field.name,
            "in": "query",
            "required": False,
            "description": f"{'.'.join(field.path)} of a plan's document.",
            "schema": {"type": "string", **({"default": field.default} if field.default else {})},
        }
        for field in FIELDS
    ]


_TITLE = "The address has parameters that cannot be used."


def _of_form(form: PlanForm) -> list[FieldProblem]:
    unknown = [FieldProblem(name[:60], UNKNOWN_KEY) for name in form.ignored[:MOST_PROBLEMS]]
    if form.not_planned:
        unknown.append(FieldProblem(left_out_keys.NAME, "is of the site's pages; leave it out"))
    return [*unknown, *(FieldProblem(name, message) for name, message in form.errors.items())]
