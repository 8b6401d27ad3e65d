"""One step as a row of columns: what is allocated at the worst instant of each phase, stacked by cause."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.drawing.card import by_cause
from app.drawing.scale import percent_of
from planner.ledger import PHASES, Line

HEIGHT = 190
_BASE = HEIGHT - 26
_TOP = 30
_FILL = 0.62  # share of its slot that a column takes; the rest is air


@dataclass(frozen=True, slots=True)
class Block:
    """One cause in one column."""

    cause: str
    bytes: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """One phase. `middle` is where its label stands, `top` the y of its summit."""

    phase: str
    bytes: int
    x: float
    width: float
    middle: float
    top: float
    is_peak: bool
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The columns and the height of the usable line, or None where it is far above the picture."""

    columns: tuple[Column, ...]
    usable_y: float | None
    height: int = HEIGHT
    base: int = _BASE


def draw_timeline(lines: Sequence[Line], peak_phase: str, usable_bytes: int) -> Timeline:
    """Stack the lines of every phase. The usable line is drawn where the step comes within a third of it."""
    totals = {phase: sum(line.bytes for line in lines if phase in line.alive_in) for phase in PHASES}
    summit = max(*totals.values(), 1)
    near = usable_bytes <= summit * 1.5
    per_byte = (_BASE - _TOP) / (max(summit, usable_bytes) if near else summit)
    slot = 100 / len(PHASES)
    columns = []
    for place, phase in enumerate(PHASES):
        blocks, y = [], float(_BASE)
        for cause, size_bytes in by_cause(lines, phase).items():
            height = max(size_bytes, 0) * per_byte
            y -= height
            blocks.append(Block(cause, size_bytes, round(y, 2), round(height, 2)))
        columns.append(
            Column(
                phase=phase,
                bytes=totals[phase],
                x=round(slot * (place + (1 - _FILL) / 2), 3),
                width=round(slot * _FILL, 3),
                middle=percent_of(place + 0.5, len(PHASES)),
                top=round(y, 2),
                is_peak=phase == peak_phase,
                blocks=tuple(blocks),
            )
        )
    return Timeline(tuple(columns), round(_BASE - usable_bytes * per_byte, 2) if near else None)
