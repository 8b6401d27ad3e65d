"""Why a request was not worked out."""

from planner.errors import FieldProblem, FitproofError


class BusyError(FitproofError):
    """Too many others ask at the moment."""

    status = 503
    code = "busy"
    headers = {"Retry-After": "2"}  # noqa: RUF012 (read only, in the shape problems.py takes)


class OverBudgetError(FitproofError):
    """The request took more time than one may."""

    status = 503
    code = "over_budget"
    headers = {"Retry-After": "10"}  # noqa: RUF012 (as above)


class BeyondAllModelsError(FitproofError):
    """The request takes more memory than any model's plan."""

    status = 422
    code = "too_large"


class ComputationFailedError(Exception):
    """A worker broke over a request: a fault of ours. Holds the worker's trace."""


def cannot_now(error: Exception) -> BusyError:
    """The workers themselves are in trouble: not the caller's fault, and soon over."""
    fix = f"{error or 'the workers do not start'}; try again in 2 s"
    return BusyError("The server cannot work this out now.", [FieldProblem("request", fix)])
