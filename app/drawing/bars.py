"""Bars of memory one below the other, each of parts end to end, all to one scale, against what a card gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.drawing.scale import WITH_AIR, Tick, percent_of, ticks

# A name above each bar, the bar, and air below it; the axis under all of them.
_NAME, _THICKNESS, _AIR, _TOP, _AXIS = 20, 26, 12, 22, 28


@dataclass(frozen=True, slots=True)
class Row:
    """One bar to be drawn: bytes by kind, in the order they are laid. `marked` is the one that decides."""

    name: str
    parts: Mapping[str, int]
    marked: bool = False

    @property
    def bytes(self) -> int:
        """All parts together."""
        return sum(self.parts.values())


@dataclass(frozen=True, slots=True)
class Part:
    """One kind's stretch of a bar, in percent of the width."""

    kind: str
    bytes: int
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. `name_y` is the baseline of its name, `y` its upper edge."""

    name: str
    bytes: int
    marked: bool
    name_y: int
    y: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Bars:
    """The picture; `usable_x` is None where no card is asked about."""

    bars: tuple[Bar, ...]
    usable_x: float | None
    usable_bytes: int | None
    ticks: tuple[Tick, ...]
    height: int
    thickness: int = _THICKNESS

    @property
    def kinds(self) -> tuple[str, ...]:
        """What occurs in any bar, in the order it is laid."""
        return tuple(dict.fromkeys(part.kind for bar in self.bars for part in bar.parts))

    @property
    def base(self) -> int:
        """Where the axis stands."""
        return self.height - _AXIS


def draw_bars(rows: Sequence[Row], usable_bytes: int | None = None) -> Bars:
    """Lay the parts of each row end to end. Parts without bytes are left out."""
    whole = round(max([usable_bytes or 0, *(row.bytes for row in rows), 1]) * WITH_AIR)
    bars = []
    for place, row in enumerate(rows):
        top = _TOP + place * (_NAME + _THICKNESS + _AIR)
        bars.append(Bar(row.name, row.bytes, row.marked, top + _NAME - 6, top + _NAME, _laid(row, whole)))
    height = _TOP + len(rows) * (_NAME + _THICKNESS + _AIR) + _AXIS
    usable_x = None if usable_bytes is None else percent_of(usable_bytes, whole)
    return Bars(tuple(bars), usable_x, usable_bytes, ticks(whole), height)


def _laid(row: Row, whole: int) -> tuple[Part, ...]:
    parts, used = [], 0
    for kind, size_bytes in row.parts.items():
        if size_bytes > 0:
            parts.append(Part(kind, size_bytes, percent_of(used, whole), percent_of(size_bytes, whole)))
            used += size_bytes
    return tuple(parts)
