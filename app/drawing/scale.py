"""A straight scale from bytes to percent, and the round numbers along it."""

from dataclasses import dataclass

from planner.units import GIB

# Steps a person counts in without thinking. Cards run from 4 to 288 GiB.
_STEPS_GIB = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True)
class Tick:
    """One mark on the axis."""

    at: float
    label: str


def percent_of(part: float, whole: float) -> float:
    """`part` as a percentage of `whole`, never negative; three digits are a hundredth of a pixel on a wide screen."""
    return max(round(100 * part / whole, 3), 0.0) if whole else 0.0


def ticks(whole_bytes: int, at_most: int = 6) -> tuple[Tick, ...]:
    """Round GiB marks from zero, at most `at_most` of them, none closer than 4 % to the right edge."""
    whole_gib = whole_bytes / GIB
    step = next((size for size in _STEPS_GIB if whole_gib / size <= at_most), _STEPS_GIB[-1])
    marks = (n * step for n in range(int(whole_gib / step) + 1))
    return tuple(Tick(percent_of(mark, whole_gib), f"{mark:g}") for mark in marks if mark <= whole_gib * 0.96)
