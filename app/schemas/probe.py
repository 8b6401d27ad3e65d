"""Probes, workers and evidence, as the API writes them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from planner.measurement import Measurement


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ComparedPhase(_Strict):
    """One phase of the run, measured and foreseen."""

    name: str
    measured_bytes: int
    predicted_bytes: int | None = Field(description="Absent for a phase that the formulas do not tell apart.")
    resident_bytes: int
    seconds: float | None


class ProbeResource(_Strict):
    """One probe. `succeeded` means that there is an answer, out of memory included; `failed` that there is none."""

    id: str
    state: Literal["queued", "claimed", "running", "succeeded", "failed", "cancelled"]
    instrument: Literal["dry-run", "cpu", "cuda"]
    attempt: int = Field(description="From 1; a lost attempt is repeated, three times unless its server ended.")
    request: dict[str, Any]
    weights: str
    memory_limit_bytes: int | None
    worker: str | None
    cancel_requested: bool
    prediction: dict[str, Any] | None = Field(description="What the formulas foresaw when it was queued.")
    measurement: Measurement | None
    comparison: list[ComparedPhase] | None
    explanations: list[str] = Field(description="Why the measurement may differ from the prediction.")
    error: str | None = Field(description="Why the machinery failed, in a sentence.")
    created_at: str
    started_at: str | None
    finished_at: str | None


class ProbeList(_Strict):
    """A page of probes, newest first."""

    items: list[ProbeResource]
    next_cursor: str | None


class WorkerItem(_Strict):
    """A worker, as the dispatcher saw it last."""

    id: str
    engine: str = Field(description="What runs probes there.", examples=["local", "ray"])
    kind: Literal["cpu", "gpu"]
    name: str
    card: str | None = Field(description="The catalogue's id. A card plays every smaller one too.")
    total_memory_bytes: int | None
    compute_capability: str | None
    driver: str | None
    slots: int
    busy: int
    plays: list[Literal["dry-run", "cpu", "cuda"]]
    problem: str | None
    seen_at: str


class WorkerList(_Strict):
    """Every attached worker; `hint` says how to attach one where there is none."""

    items: list[WorkerItem]
    hint: str | None


class ImportAnswer(_Strict):
    """What an import did."""

    added: int
    known: int = Field(description="Records that were here already.")
