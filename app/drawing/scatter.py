"""The error of each prediction against what was measured: bytes to the right (logarithmic), per cent upwards."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, log

from app.drawing.scale import Tick, percent_of
from planner.units import GIB

_TICKS_GIB = (0.5, 1, 2, 4, 8, 16, 32, 64, 128)
# The upper axis ends at a multiple of this many per cent.
_STEP_PERCENT = 5


@dataclass(frozen=True, slots=True)
class Point:
    """One run: percentages from the left and from the top. `kind` names what was measured of it."""

    x: float
    y: float
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class Scatter:
    """Points, the ticks of both axes, and how far down the line of no error lies."""

    points: tuple[Point, ...]
    across: tuple[Tick, ...]
    upwards: tuple[Tick, ...]
    zero_y: float = 50.0


def draw_scatter(rows: Iterable[tuple[int, int, str, str]]) -> Scatter:
    """Place rows of (measured bytes, predicted bytes, kind, label); the upward axis is as long above as below zero."""
    kept = [row for row in rows if row[0] > 0 and row[1] > 0]
    if not kept:
        return Scatter((), (), ())
    low, high = min(row[0] for row in kept) * 0.9, max(row[0] for row in kept) * 1.1
    errors = [100 * (predicted / measured - 1) for measured, predicted, _, _ in kept]
    most = _STEP_PERCENT * max(ceil(max(map(abs, errors)) / _STEP_PERCENT), 1)

    def across(size_bytes: float) -> float:
        return round(100 * log(size_bytes / low) / log(high / low), 3)

    def down(error_percent: float) -> float:
        return percent_of(most - error_percent, 2 * most)

    points = tuple(
        Point(across(row[0]), down(error), row[2], f"{row[3]}: {error:+.2f} %".replace("-", "−"))
        for row, error in zip(kept, errors, strict=True)
    )
    marks = tuple(Tick(across(g * GIB), f"{g:g}") for g in _TICKS_GIB if low <= g * GIB <= high)
    steps = range(-most, most + 1, _STEP_PERCENT if most <= 20 else most)
    return Scatter(points, marks, tuple(Tick(down(step), _in_percent(step)) for step in steps))


def _in_percent(step: int) -> str:
    return f"{step:+d} %".replace("-", "−") if step else "0"
