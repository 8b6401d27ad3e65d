"""The answer of POST /inference, as `fitproof inference --json` writes it."""

from pydantic import BaseModel, ConfigDict, Field

from app.schemas.plan import LineItem, PhaseItem, RecordedItem, RequiredBytes, Verdict
from planner.serving.request import Engine


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ServedGpu(_Strict):
    """The card."""

    id: str
    name: str


class ServingLimits(_Strict):
    """Each alone, everything else unchanged; 0 where none fits."""

    context: int = Field(description="Longest context for this batch, up to `made_for`.")
    batch: int = Field(description="Most sequences at a time with this context.")
    made_for: int | None = Field(description="The context that the model's config was made for, where it says so.")


class InferenceDocument(_Strict):
    """Whether it fits, and what takes the bytes."""

    verdict: Verdict
    engine: Engine
    gpu: ServedGpu
    model: str
    peak_allocated_bytes: int
    peak_phase: str
    required_bytes: RequiredBytes
    usable_bytes: int
    headroom_bytes: int
    recorded: RecordedItem | None = Field(
        description="Of transformers, which ran on virtual cards; vLLM and llama.cpp follow their own rules: null."
    )
    phases: list[PhaseItem]
    lines: list[LineItem]
    host_bytes: int = Field(description="What an offloaded cache keeps in host memory; 0 without one.")
    cache_bytes: int = Field(description="Keys and values of the whole context of every sequence.")
    limits: ServingLimits
