"""The answer of GET /recommend."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.schemas.plan import Verdict
from planner.request.schema import Method


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ChoiceItem(_Strict):
    """The best that fits of one size of model. What is null does not fit."""

    size: str = Field(description="How people call it: 8B.", examples=["8B"])
    model: str = Field(description="The size's most downloaded dense text model of the catalogue.")
    params: int
    outcome: Literal["card", "cards", "nothing"] = Field(
        description="card: one does; cards: `cards` of them with FSDP's full shard; nothing: not even 8 do."
    )
    verdict: Verdict = Field(description="tight where several cards are planned from source and held to no dry run.")
    method: Method | None
    cards: int | None
    max_length: int | None = Field(description="Longest length that fits at batch 1.")
    per_device_train_batch_size: int | None = Field(description="Largest batch that fits at `at_length`.")
    at_length: int | None
    required_bytes: int | None = Field(description="Likely bytes of `request`.")
    request: dict[str, Any] | None = Field(description="To be sent to POST /plans, everything else at its defaults.")


class RecommendDocument(_Strict):
    """What can be trained on a card."""

    gpu: str
    name: str
    usable_bytes: int
    choices: list[ChoiceItem]
