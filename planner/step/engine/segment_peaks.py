"""How high each segment of a step rises above where it begins, and so the worst moment of each phase.

In C where that was built (planner/native/segment_peaks.c), for some thousand moves of every plan; else in Python.
"""

from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

from planner.native_library import native_library

if TYPE_CHECKING:
    from planner.step.engine.program import Program, Segment

PHASES = ("forward", "loss", "backward")


def worst_natively(
    program: "Program", sequence: tuple[int, ...], tables: Sequence[Sequence[int]]
) -> list[tuple[str, int, int, int]] | None:
    """Of each phase its name, the most bytes that are there, the position in `sequence` where they are, and how many
    moves of that segment have happened then.

    `sequence` are the segments in the order they happen, `tables[kind]` has the bytes of each key. None: there is no
    library, or the bytes are too many for it.
    """
    library = native_library()
    own = [tables[segment.kind or 0] for segment in program.segments]
    if library is None or not all(isinstance(table, array) for table in own):
        return None
    worst = array("q", (-1, 0, 0) * len(PHASES))
    places = array("q", [table.buffer_info()[0] for table in own if isinstance(table, array)])
    given = (_flat(program), places, _in_array(sequence))
    if library.worst_of_phases(*(each.buffer_info()[0] for each in given), len(sequence), worst.buffer_info()[0]):
        raise MemoryError
    return list(zip(PHASES, worst[::3], worst[1::3], worst[2::3], strict=True))


def levels(segment: "Segment", table: Sequence[int]) -> list[int]:
    """Bytes above where the segment begins: before its first move, and after each."""
    return list(accumulate((table[move] if move >= 0 else -table[~move] for move in segment.moves), initial=0))


# As many of both as there are scripts (planner/step/schedule.py).
@lru_cache(maxsize=512)
def _flat(program: "Program") -> "array[int]":
    flat = array("i", [len(program.segments)])
    for segment in program.segments:
        flat.extend((PHASES.index(segment.phase), len(segment.moves)))
        flat.extend(segment.moves)
    return flat


@lru_cache(maxsize=512)
def _in_array(sequence: tuple[int, ...]) -> "array[int]":
    return array("i", sequence)
