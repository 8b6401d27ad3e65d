"""What every part of a request is made of: a frozen model, names, and patterns of names."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from planner.request.validation.control_characters import checked_name
from planner.request.validation.patterns import checked_pattern

Name = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(checked_name)]
# PEFT and transformers match these as regular expressions.
Pattern = Annotated[Name, AfterValidator(checked_pattern)]


class Frozen(BaseModel):
    """A part of a request: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
