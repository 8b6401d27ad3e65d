"""The card filling up: every line alive at the peak, laid end to end, against the memory the card really gives."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.drawing.scale import WITH_AIR, Tick, percent_of, ticks
from planner.ledger import PHASES, Line

# What stays from step to step comes first, what only passes through comes last, what torch never sees at the end.
CAUSES = ("weights", "adapters", "optimizer", "gradients", "activations", "logits", "workspace", "runtime")

# A name of 90 px needs 8 % of a wide page and 26 % of a phone.
_NAMED_PERCENT = 8.0
_ROOMY_PERCENT = 26.0


@dataclass(frozen=True, slots=True)
class Segment:
    """One line of the ledger as a stretch of the bar. `index` is its place in the plan's ledger."""

    index: int
    line: Line
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Label:
    """A cause's name over its stretch of the bar. `roomy` labels have room on a phone too."""

    cause: str
    x: float
    roomy: bool


@dataclass(frozen=True, slots=True)
class CardPicture:
    """The bar: segments, the rest that no line explains, the usable line and the band of what is needed."""

    segments: tuple[Segment, ...]
    labels: tuple[Label, ...]
    free_x: float
    rest_x: float
    rest_width: float
    rest_bytes: int
    usable_x: float
    low_x: float
    likely_x: float
    high_x: float
    over_width: float
    free_bytes: int
    ticks: tuple[Tick, ...]


def draw_card(lines: Sequence[Line], peak_phase: str, usable_bytes: int, band: tuple[int, int, int]) -> CardPicture:
    """Lay the lines alive in `peak_phase` end to end. `band` is what is needed: low, likely, high.

    The rest between the lines and `likely` (context, allocator slack) is drawn too, so that the bar ends where the
    verdict reads it.
    """
    low, likely, high = band
    whole = int(max(usable_bytes, high) * WITH_AIR)
    segments: list[Segment] = []
    used = 0
    for index, line in in_order(lines, peak_phase):
        segments.append(Segment(index, line, percent_of(used, whole), percent_of(line.bytes, whole)))
        used += line.bytes
    rest_bytes = max(likely - used, 0)
    return CardPicture(
        segments=tuple(segments),
        labels=_labels(segments, percent_of(usable_bytes, whole)),
        free_x=percent_of((likely + usable_bytes) / 2, whole),
        rest_x=percent_of(used, whole),
        rest_width=percent_of(rest_bytes, whole),
        rest_bytes=rest_bytes,
        usable_x=percent_of(usable_bytes, whole),
        low_x=percent_of(low, whole),
        likely_x=percent_of(likely, whole),
        high_x=percent_of(high, whole),
        over_width=percent_of(max(likely - usable_bytes, 0), whole),
        free_bytes=max(usable_bytes - likely, 0),
        ticks=ticks(whole),
    )


def _labels(segments: Sequence[Segment], usable_x: float) -> tuple[Label, ...]:
    """Name the causes whose stretch has room for a name that does not run into the usable line."""
    labels = []
    for cause in CAUSES:
        own = [segment for segment in segments if segment.line.cause == cause]
        width = sum(segment.width for segment in own)
        if width >= _NAMED_PERCENT and not own[0].x <= usable_x <= own[0].x + _NAMED_PERCENT:
            labels.append(Label(cause, own[0].x, width >= _ROOMY_PERCENT))
    return tuple(labels)


def in_order(lines: Sequence[Line], phase: str) -> list[tuple[int, Line]]:
    """The lines alive in `phase` with their index: by cause, the largest of each cause first."""
    alive = [(index, line) for index, line in enumerate(lines) if phase in line.alive_in]
    return sorted(alive, key=lambda pair: (CAUSES.index(pair[1].cause), -pair[1].bytes))


def by_cause(lines: Sequence[Line], phase: str) -> dict[str, int]:
    """Bytes of each cause at one moment, in the drawing's order, without the causes that weigh nothing then."""
    totals = {cause: sum(x.bytes for x in lines if x.cause == cause and phase in x.alive_in) for cause in CAUSES}
    return {cause: total for cause, total in totals.items() if total}


def alive_marks(line: Line) -> tuple[tuple[str, bool], ...]:
    """Each phase with whether the line is alive in it, for the row of dots."""
    return tuple((phase, phase in line.alive_in) for phase in PHASES)
