"""What one warning is, and what its checks share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from planner.answer.planned import Planned
from planner.request.schema import Quantization, Request

Replan = Callable[[Request], Planned]


@dataclass(frozen=True, slots=True)
class Notice:
    """One warning. `bytes` is what it costs in this plan, None where it costs no memory."""

    code: str
    message: str
    bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the API writes it."""
        document: dict[str, Any] = {"code": self.code, "message": self.message}
        return document if self.bytes is None else document | {"bytes": self.bytes}


def four_bit_of(plan: Planned) -> Quantization | None:
    """The plan's quantization if it is bitsandbytes' 4 bit."""
    quantization = plan.recipe.quantization
    return quantization if quantization and quantization.load_in_4bit else None


def cost_bytes(plan: Planned, replan: Replan, change: Mapping[str, Mapping[str, Any]]) -> int:
    """Allocated peak of this plan less that of the same request with `change` made."""
    sections = {
        section: (getattr(plan.request, section) or getattr(plan.recipe, section)).model_copy(update=dict(values))
        for section, values in change.items()
    }
    return plan.peak_allocated_bytes - replan(plan.request.model_copy(update=sections)).peak_allocated_bytes
