"""What an instrument read. Dry run, CPU run and CUDA run print the same document."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Instrument = Literal["dry-run", "cpu", "cuda"]
# A pebibyte: beyond any card, and exact in every database and browser.
Size = Annotated[int, Field(ge=0, le=1 << 50)]
Count = Annotated[int, Field(ge=0, le=1 << 50)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PhaseReading(_Frozen):
    """One phase: worst allocated and reserved bytes, and what was still allocated when it ended."""

    name: str
    peak_allocated_bytes: Size
    peak_reserved_bytes: Size | None = None
    resident_bytes: Size
    seconds: float | None = None


class PeakPart(_Frozen):
    """One module's share of a step's fullest moment: held all along, and made by the step."""

    name: str
    held_bytes: Size
    made_bytes: Size


class RankReading(_Frozen):
    """One rank of a run on several cards, on a card of its own."""

    rank: Count
    outcome: Literal["ok", "out_of_memory"]
    failed_phase: str | None = None
    peak_allocated_bytes: Size
    peak_reserved_bytes: Size
    pinned_bytes: Size = 0
    managed_bytes: Size = 0


class DeviceReading(_Frozen):
    """The device as it describes itself."""

    name: str
    total_memory_bytes: Size | None = None
    compute_capability: str | None = None
    driver: str | None = None


class Measurement(_Frozen):
    """The last stdout line of `python -m planner.probe`, and `measurement` inside a probe resource.

    `smallest_capacity_bytes` is the smallest card that survives, its context included. `managed_bytes` (paged optimizer
    states) and `pinned_bytes` are host memory at their peak, read where the card tells; `layers_measured` is in
    measurements of older releases only. `peak_parts` is what the last step held at its fullest, by module, the largest
    first: a dry run's, empty where memory ran out. `ranks` are those that ran
    of a run on several cards; everything else is then the worst rank's.
    """

    version: Literal[1] = 1
    instrument: Instrument
    outcome: Literal["ok", "out_of_memory"]
    failed_phase: str | None = None
    requested_bytes: Size | None = None
    short_bytes: Size | None = None
    peak_allocated_bytes: Size
    peak_reserved_bytes: Size | None = None
    process_bytes: Size | None = None
    context_bytes: Size | None = None
    smallest_capacity_bytes: Size | None = None
    managed_bytes: Size | None = None
    pinned_bytes: Size | None = None
    phases: tuple[PhaseReading, ...]
    peak_parts: tuple[PeakPart, ...] = ()
    steps: Count
    tokens_per_micro_batch: Count
    tokens_per_second: float | None = None
    weights: str = "synthetic"
    memory_limit_bytes: Size | None = None
    layers_measured: tuple[int, ...] | None = None
    seed: int = 0
    notes: tuple[str, ...] = ()
    device: DeviceReading
    ranks: tuple[RankReading, ...] = ()
    versions: dict[str, str]
    request: dict[str, Any]
