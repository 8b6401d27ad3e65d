"""Will this fine-tuning run fit on this GPU? Memory arithmetic without torch, web or database."""

from planner.answer.plan import Plan, plan
from planner.request.schema import Request

__all__ = ["Plan", "Request", "plan"]
