"""What a program's process had allocated over time, as the path of an SVG area, with the moments of a step below it."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 1000
HEIGHT = 240
_HEADROOM = 1.08


@dataclass(frozen=True, slots=True)
class PhaseSpan:
    """One phase, from `x` on for `width`."""

    phase: str
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Curve:
    """An SVG path over WIDTH x HEIGHT. `total_y` is the height of the card's whole memory, or None where far above."""

    path: str
    spans: tuple[PhaseSpan, ...]
    peak_x: float
    peak_y: float
    total_y: float | None


def draw_curve(points: Sequence[tuple[int, int, str]], total_bytes: int) -> Curve | None:
    """`points` are (microseconds, bytes, phase), spread evenly: kernels of a virtual card take no time."""
    if len(points) < 2:
        return None
    highest = max(size for _, size, _ in points)
    near = total_bytes <= highest * 2
    scale = HEIGHT / ((total_bytes if near else highest) * _HEADROOM)
    step = WIDTH / (len(points) - 1)
    places = [(index * step, HEIGHT - size * scale) for index, (_, size, _) in enumerate(points)]
    line = " ".join(f"L{x:.1f} {y:.1f}" for x, y in places)
    peak_x, peak_y = min(places, key=lambda place: place[1])
    return Curve(
        path=f"M0 {HEIGHT} {line} L{WIDTH} {HEIGHT} Z",
        spans=tuple(_spans([phase for _, _, phase in points], step)),
        peak_x=peak_x,
        peak_y=peak_y,
        total_y=HEIGHT - total_bytes * scale if near else None,
    )


def _spans(phases: Sequence[str], step: float) -> list[PhaseSpan]:
    spans: list[PhaseSpan] = []
    start = 0
    for index in range(1, len(phases) + 1):
        if index == len(phases) or phases[index] != phases[start]:
            spans.append(PhaseSpan(phases[start], start * step, (index - start) * step))
            start = index
    return spans
