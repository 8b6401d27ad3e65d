"""A plan, as `POST /api/v1/plans` and `fitproof plan --json` write it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from planner.ledger import Cause, Evidence
from planner.request.schema import Request

Verdict = Literal["fits", "tight", "does_not_fit"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class RequiredBytes(_Strict):
    """What the process takes on this card, context and allocator's cache included. Less than `low` never survives."""

    low: int
    likely: int
    high: int


class PhaseItem(_Strict):
    """Allocated bytes at the worst moment of one phase."""

    name: str
    allocated_bytes: int


class LineItem(_Strict):
    """One cause of bytes, with the formula, the same with numbers filled in, and where it was learned."""

    name: str
    bytes: int
    cause: Cause
    alive_in: list[str]
    formula: str
    working: str
    evidence: Evidence
    source: str


class RecordedItem(_Strict):
    """How the formulas compared with torch's own record of a run with these switches, or the nearest on record.

    `unlike` names the switches in which the nearest differ; it is empty where `same_switches`. `worst_fraction` is the
    largest difference of a phase's bytes; null where no run of the family was recorded.
    """

    same_switches: bool
    unlike: list[str]
    settings: int
    phases: int
    equal_phases: int
    worst_fraction: float | None
    sentence: str


class Textbook(_Strict):
    """What the QLoRA chapter's formulas give: 0.5 N, N / 64, 2 r (d + k)."""

    weights_bytes: int
    constants_bytes: int
    adapters_bytes: int


class TokensPerSecond(_Strict):
    """Of all cards together.

    Where no published run is near, `low` is null, and `high` is what the card's limits allow.
    """

    low: int | None
    likely: int
    high: int


class ValueRange(_Strict):
    """`low` at the fastest rate, `high` at the slowest: null where no published run is near."""

    low: float
    likely: float
    high: float | None


class Throughput(_Strict):
    """How fast the run trains, from the work of its traced step; null, with the reason, where that is not planned."""

    tokens_per_second: TokensPerSecond | None
    evidence: str
    hours: ValueRange | None = Field(description="For the request's tokens; null where it says none.")
    cost: ValueRange | None = Field(description="Of all cards, in price_per_hour's currency; null where it says none.")


class WarningItem(_Strict):
    """Something that surprises people, in words."""

    code: str
    message: str
    bytes: int | None = Field(None, description="What it costs in this plan, where it costs bytes.")


class NotPlannedItem(_Strict):
    """A key of a trainer's file that moves memory and that no formula plans."""

    key: str
    value: Any
    why: str
    at_least_bytes: int | None = Field(None, description="What it is certain to take; counted in the lines.")


class AdviceItem(_Strict):
    """A change, planned before it is shown."""

    change: dict[str, Any]
    saves_bytes: int
    verdict: Verdict
    cost: str


class ModelSubject(_Strict):
    """The model that was planned; `beside` says what its checkpoint holds beside the text model, or nothing."""

    id: str
    model_type: str
    params: int
    beside: str


class GpuSubject(_Strict):
    """The card that was planned for, and how its usable memory is known."""

    id: str
    name: str
    usable_evidence: Literal["measured", "modelled", "given"]
    usable_source: str


class CardPart(_Strict):
    """One of the cards of a model that is spread over them by `device_map`."""

    gpu: str
    layers: int = Field(description="Decoder layers that lie on it.")
    peak_allocated_bytes: int


class Cards(_Strict):
    """The cards the run lies on. Bytes everywhere are those of the card that holds most, `worst_rank`."""

    count: int
    strategy: Literal["single", "ddp", "fsdp", "zero", "device_map"]
    worst_rank: int
    each: list[CardPart] | None = Field(description="What each holds under device_map; null for every other strategy.")


class PlanDocument(_Strict):
    """The answer to a request."""

    verdict: Verdict
    peak_allocated_bytes: int = Field(description="What torch.cuda.max_memory_allocated() would read.")
    peak_phase: str
    required_bytes: RequiredBytes
    usable_bytes: int
    headroom_bytes: int = Field(description="usable - likely; negative where it does not fit.")
    paged_bytes: int = Field(description="Optimizer state kept in host memory until it is needed.")
    host_bytes: int = Field(description="What one process keeps in host memory: offloaded shards, paged state.")
    cards: Cards
    phases: list[PhaseItem]
    lines: list[LineItem]
    recorded: RecordedItem | None = Field(description="Null where the step of this model is not planned.")
    textbook: Textbook
    throughput: Throughput
    not_planned: list[NotPlannedItem] = Field(
        description="What a trainer's file asks for beside the plan. Where there is any, the verdict is never fits."
    )
    warnings: list[WarningItem]
    advice: list[AdviceItem]
    versions: dict[str, str] = Field(description="Library versions the formulas were held to.")
    request: Request = Field(description="The request with every default filled in.")
    model: ModelSubject
    gpu: GpuSubject
