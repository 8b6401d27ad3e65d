"""A card's compute capability, major.minor in one string: "8.9"."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

_TWO_NUMBERS = r"^\d{1,2}\.\d$"


def _as_text(value: object) -> str:
    """JSON's and YAML's 8.9 for "8.9". A whole number is refused: 8 may be 8.0, 8.6 or 8.9."""
    text = str(value) if isinstance(value, float) else value
    if not isinstance(text, str) or not re.match(_TWO_NUMBERS, text):
        msg = f'write major.minor as NVIDIA does, such as "8.9"; got {str(value)[:60]}'
        raise ValueError(msg)
    return text


ComputeCapability = Annotated[str, Field(pattern=_TWO_NUMBERS), BeforeValidator(_as_text)]
