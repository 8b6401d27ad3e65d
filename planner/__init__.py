"""Will this fine-tuning run fit on this GPU? Memory arithmetic without torch, web or database."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.answer.plan import Plan, plan
    from planner.request.schema import Request

__all__ = ["Plan", "Request", "plan"]

# Imported on first use, so that importing a part of the package, an error or a unit, does not load the whole.
_HOMES = {"Plan": "planner.answer.plan", "Request": "planner.request.schema", "plan": "planner.answer.plan"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found
