"""The answer of GET /limits."""

from pydantic import BaseModel, ConfigDict, Field

from app.schemas.plan import Verdict


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class LimitItem(_Strict):
    """The end of one knob's range."""

    fits: int = Field(description="Largest value that fits; 0 where even 1 does not.")
    tight: int = Field(description="Largest value that is not surely too much.")


class CardItem(_Strict):
    """A card on which the run fits."""

    gpu: str
    usable_bytes: int
    verdict: Verdict


class LimitsDocument(_Strict):
    """How far a run can be stretched, one knob at a time."""

    per_device_train_batch_size: LimitItem
    max_length: LimitItem
    smallest_cards: list[CardItem]
    cards_of_this_kind: int | None = Field(
        description="The fewest of this card that fit the run, several with FSDP; null where 8 do not."
    )
