"""Numbers as trainers' files write them."""

from typing import Any


def as_number(value: Any) -> Any:
    """A whole number as the decimal that the request has; anything else as it stands."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
