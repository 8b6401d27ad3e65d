"""A plan as the JSON document of the public contract (design.md, section 2)."""

from dataclasses import asdict, dataclass
from typing import Any

from planner.answer.planned import Planned
from planner.answer.textbook import Textbook
from planner.answer.warnings import Notice
from planner.answer.ways_to_fit.advice import Advice
from planner.ledger import Line
from planner.request.schema import Request
from planner.throughput.length import cost_of, hours_of
from planner.throughput.rate import Throughput

# What the formulas were held to.
VERSIONS = {"transformers": "5.23", "peft": "0.21", "bitsandbytes": "0.50", "torch": "2.14"}


@dataclass(frozen=True, slots=True)
class Judged:
    """What is said of a plan beside its bytes."""

    textbook: Textbook
    throughput: Throughput
    warnings: tuple[Notice, ...]
    advice: tuple[Advice, ...]


def document_of(plan: Planned, judged: Judged) -> dict[str, Any]:
    """`plan`, complete, in plain values."""
    required = plan.required_bytes
    book = judged.textbook
    return {
        "verdict": plan.verdict,
        "peak_allocated_bytes": plan.peak_allocated_bytes,
        "peak_phase": plan.peak_phase,
        "required_bytes": {"low": required.low, "likely": required.likely, "high": required.high},
        "usable_bytes": plan.usable_bytes,
        "headroom_bytes": plan.headroom_bytes,
        "paged_bytes": plan.paged_bytes,
        "host_bytes": plan.host_bytes,
        "cards": _cards(plan),
        "phases": [{"name": phase.name, "allocated_bytes": phase.allocated_bytes} for phase in plan.phases],
        "lines": [_line(line) for line in plan.lines],
        "recorded": plan.comparison.to_dict() if plan.comparison else None,
        "textbook": {
            "weights_bytes": book.weights_bytes,
            "constants_bytes": book.constants_bytes,
            "adapters_bytes": book.adapters_bytes,
        },
        "throughput": _throughput(judged.throughput, plan.request),
        "not_planned": [item.to_dict() for item in plan.not_planned],
        "warnings": [warning.to_dict() for warning in judged.warnings],
        "advice": [advice.to_dict() for advice in judged.advice],
        "versions": dict(VERSIONS),
        "request": plan.request.model_dump(mode="json"),
        "model": {
            "id": plan.model.id,
            "model_type": plan.model.model_type,
            "params": plan.model.params,
            "beside": plan.model.beside,
        },
        "gpu": {
            "id": plan.gpu.id,
            "name": plan.gpu.name,
            "usable_evidence": plan.gpu.usable_evidence,
            "usable_source": plan.gpu.usable_source,
        },
    }


def _cards(plan: Planned) -> dict[str, Any]:
    """How many, and of a `device_map` what each of them holds."""
    layout, spread = plan.recipe.layout, plan.spread
    each = [
        {"gpu": card.gpu.id, "layers": len(card.layers), "peak_allocated_bytes": card.ledger.peak().allocated_bytes}
        for card in spread.cards
    ] if spread else None  # fmt: skip
    worst = spread.fullest.number if spread else 0
    return {"count": layout.world, "strategy": layout.strategy, "worst_rank": worst, "each": each}


def _throughput(found: Throughput, request: Request) -> dict[str, Any]:
    """Whole tokens per second, and hours and their cost where the request says how many tokens; an end is left open
    where no published run is near.
    """
    low, likely, high = (None if value is None else round(value) for value in (found.low, found.likely, found.high))
    rate = None if likely is None else {"low": low, "likely": likely, "high": high}
    hours = hours_of(request.tokens, found)
    cost = cost_of(hours, request.price_per_hour, request.gpus)
    return {
        "tokens_per_second": rate,
        "evidence": found.evidence or found.why_not,
        "hours": asdict(hours) if hours else None,
        "cost": asdict(cost) if cost else None,
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "name": line.name,
        "bytes": line.bytes,
        "cause": line.cause,
        "alive_in": list(line.alive_in),
        "formula": line.formula,
        "working": line.working,
        "evidence": line.evidence,
        "source": line.source,
    }
