"""From allocated bytes to a verdict: fits only when even the high estimate fits, no only when even the low does not."""

from dataclasses import dataclass
from typing import Literal

from planner.gpu import Gpu
from planner.overheads import card_context_band, fragmentation_band, overheads

Verdict = Literal["fits", "tight", "does_not_fit"]


@dataclass(frozen=True, slots=True)
class Required:
    """Memory the card must have, `low` to `high`, and what the range was read off."""

    low: int
    likely: int
    high: int
    provenance: tuple[str, ...]


def required_bytes(
    peak_allocated_bytes: int,
    gpu: Gpu,
    *,
    varying_lengths: bool,
    expandable_segments: bool = False,
) -> Required:
    """Allocated peak (± the formula's error) × (1 + fragmentation) + context, each with its own band.

    Nothing here depends on the card's size.
    """
    lost = fragmentation_band(varying_lengths, expandable_segments)
    context = card_context_band(gpu)
    error = overheads().formula_band()

    def total_bytes(error_fraction: float, lost_fraction: float, context_bytes: float) -> int:
        return round(peak_allocated_bytes * (1 + error_fraction) * (1 + lost_fraction) + context_bytes)

    return Required(
        low=total_bytes(error.low, lost.low, context.low),
        likely=total_bytes(error.likely, lost.likely, context.likely),
        high=total_bytes(error.high, lost.high, context.high),
        provenance=(f"formula: {error.source}", f"fragmentation: {lost.source}", f"context: {context.source}"),
    )


def verdict_of(required: Required, usable_bytes: int) -> Verdict:
    """Compare a range with what the card has."""
    if required.high <= usable_bytes:
        return "fits"
    return "does_not_fit" if required.low > usable_bytes else "tight"
