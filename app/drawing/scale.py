"""A straight scale from bytes to percent, and the round numbers along it."""

from dataclasses import dataclass

from planner.units import GIB

# The finest step that a person counts in; the next ones are twice that, and so on. Cards run from 4 to 288 GiB.
_FINEST_GIB = 0.25
# A scale goes on a little beyond the longest bar, so that its end can be seen.
WITH_AIR = 1.04


@dataclass(frozen=True, slots=True)
class Tick:
    """One mark on the axis."""

    at: float
    label: str


def percent_of(part: float, whole: float) -> float:
    """`part` as a percentage of `whole`, never negative; three digits are a hundredth of a pixel on a wide screen."""
    return max(round(100 * part / whole, 3), 0.0) if whole else 0.0


def ticks(whole_bytes: int, at_most: int = 6) -> tuple[Tick, ...]:
    """Round GiB marks from zero, at most `at_most` of them for any number, none closer than 4 % to the right edge."""
    step_bytes = int(_FINEST_GIB * GIB)
    while step_bytes * at_most < whole_bytes:
        step_bytes *= 2
    marks = (n * step_bytes for n in range(at_most) if 100 * n * step_bytes <= 96 * whole_bytes)
    return tuple(Tick(percent_of(mark, whole_bytes), f"{mark / GIB:,g}") for mark in marks)
