"""One card's part of a step that runs over several: what comes and goes on it, and the most that it holds."""

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from planner.step.engine.program import Instant, Part, Program
from planner.step.engine.segment_peaks import PHASES


class Entry(NamedTuple):
    """Bytes of one size: those of a key for the numbers of a kind, by the line they belong to."""

    kind: int
    key: int
    tag: str


@dataclass(slots=True)
class CardMoves:
    """One card's moves in order: of each the entry, `~entry` where it goes.

    `ends` says of each position its phase and how many moves have happened at its end. `entries` is of all cards.
    """

    entries: list[Entry]
    moves: "array[int]" = field(default_factory=lambda: array("i"))
    ends: list[tuple[str, int]] = field(default_factory=list)

    def add(self, index: int, sign: int) -> None:
        """Something comes (`sign` 1) or goes (-1)."""
        self.moves.append(index if sign > 0 else ~index)

    def sizes(self, tables: Sequence[Sequence[int]]) -> list[int]:
        """Bytes of each entry."""
        return [tables[entry.kind][entry.key] for entry in self.entries]


def instants_on_card(
    program: Program, played: CardMoves, tables: Sequence[Sequence[int]], name_of: Callable[[str], str] = str
) -> tuple[Instant, ...]:
    """The worst instant of each phase on one card, and what each line holds then."""
    sizes = played.sizes(tables)
    # So that `~index` finds what goes.
    signed = [*sizes, *(-size for size in reversed(sizes))]
    levels = list(accumulate(map(signed.__getitem__, played.moves), initial=0))
    best = dict.fromkeys(PHASES, (-1, 0))
    start = 0
    for phase, end in played.ends:
        most_bytes = max(levels[start : end + 1])
        if most_bytes > best[phase][0]:
            best[phase] = most_bytes, levels.index(most_bytes, start, end + 1)
        start = end
    return tuple(
        Instant(phase, most_bytes, _held(program, played, at, sizes, name_of), {})
        for phase, (most_bytes, at) in best.items()
    )


def _held(
    program: Program, played: CardMoves, at: int, sizes: Sequence[int], name_of: Callable[[str], str]
) -> dict[str, list[Part]]:
    """What is there after so many moves, by line."""
    moved = Counter(played.moves[:at])
    lines: dict[str, list[Part]] = {}
    for index, (kind, key, tag) in enumerate(played.entries):
        if count := moved[index] - moved[~index]:
            part = (program.keys[key][1], count, count * sizes[index], kind)
            lines.setdefault(name_of(tag), []).append(part)
    return lines
