"""Rows of the two catalogues."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ModelFacts(_Strict):
    """What the model's config states. A fact that no source states is absent."""

    hidden_size: int | None = None
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    vocab_size: int | None = None
    max_position_embeddings: int | None = None
    dtype: str | None = None
    tied: bool | None = None


class ModelItem(_Strict):
    """One model."""

    id: str
    aliases: list[str]
    model_type: str
    architecture: str
    params: int = Field(description="Parameters counted on the real module tree, tied weights once.")
    licence: str | None
    gated: bool | None
    facts: ModelFacts
    unsourced: list[str] = Field(description="What matters for memory and no source states.")
    note: str
    sources: list[str]
    checked: str = Field(description="The day the row was checked.", examples=["2026-11-23"])


class ModelList(_Strict):
    """Models that match, best first."""

    items: list[ModelItem]
    total: int


class GpuItem(_Strict):
    """One card. `usable_bytes` is what the driver gives torch, never the nominal size."""

    id: str
    name: str
    aliases: list[str]
    vendor: str
    form: str
    nominal_gb: int | None
    usable_bytes: int | None = Field(description="Absent where no source states it; such a card cannot be planned on.")
    usable_evidence: Literal["measured", "modelled"] | None
    usable_source: str | None
    compute_capability: str | None
    native_bfloat16: bool | None
    bitsandbytes_4bit: bool
    note: str
    sources: list[str]
    checked: str


class GpuList(_Strict):
    """Cards that match, best first."""

    items: list[GpuItem]
    total: int
