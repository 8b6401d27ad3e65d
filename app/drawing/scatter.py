"""Predicted against measured on two equal logarithmic axes: on the diagonal, we were right."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import log

from app.drawing.scale import Tick
from planner.units import GIB

_TICKS_GIB = (0.5, 1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True, slots=True)
class Point:
    """One measured row: percentages from the left and from the top."""

    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Scatter:
    """Points and the ticks that both axes share."""

    points: tuple[Point, ...]
    ticks: tuple[Tick, ...]


def draw_scatter(rows: Iterable[tuple[int, int, str]]) -> Scatter:
    """Place rows of (measured bytes, predicted bytes, label). Axes run from the smallest to the largest of both."""
    kept = [row for row in rows if row[0] > 0 and row[1] > 0]
    if not kept:
        return Scatter((), ())
    low = min(min(measured, predicted) for measured, predicted, _ in kept) * 0.9
    high = max(max(measured, predicted) for measured, predicted, _ in kept) * 1.1

    def place(size_bytes: float) -> float:
        return round(100 * log(size_bytes / low) / log(high / low), 3)

    points = tuple(Point(place(measured), 100 - place(predicted), label) for measured, predicted, label in kept)
    marks = tuple(Tick(place(g * GIB), f"{g:g}") for g in _TICKS_GIB if low <= g * GIB <= high)
    return Scatter(points, marks)
