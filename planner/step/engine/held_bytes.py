"""What a step holds beside what its layers make: bytes that come and go with whole stretches of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

# Names of lines and their bytes.
Held = Mapping[str, int]
Moment = Literal["at_start", "before_gradients", "during", "at_end"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is held while one segment is played, at its very end, and for a moment before it begins.

    Gradients that segments `gone` (first, one after the last) made have been taken away before it begins. Where it says
    `before_gradients`, `during` counts from the segment's first gradient of a weight, when all is recomputed.
    """

    during: Held
    at_end: Held
    gone: tuple[int, int] = (0, 0)
    at_start: Held = field(default_factory=dict)
    before_gradients: Held | None = None


@dataclass(frozen=True, slots=True)
class HeldThroughStep:
    """One stretch for each segment of a step, in the order they are played.

    `takes_gradients`: gradients of weights are held here from the moment they are made, none in the step itself.
    """

    stretches: Sequence[Stretch]
    takes_gradients: bool = False

    def highest(
        self, position: int, level: int, peaks: tuple[int, int], net: int, reduced: Sequence[int]
    ) -> tuple[int, Moment]:
        """The most that is there in a segment, and when.

        `level` is what the step's own tensors take when it begins; `peaks` is what the segment adds at most, until its
        first gradient of a weight and from then on, `net` what it adds at last; `reduced[i]` are the gradients that the
        first `i` segments left.
        """
        stretch = self.stretches[position]
        first, last = stretch.gone
        level -= reduced[last] - reduced[first]
        early = stretch.during if stretch.before_gradients is None else stretch.before_gradients
        moments: tuple[tuple[int, Moment], ...] = (
            (level + peaks[1] + sum(stretch.during.values()), "during"),
            (level + peaks[0] + sum(early.values()), "before_gradients"),
            (level + net + sum(stretch.at_end.values()), "at_end"),
            (level + sum(stretch.at_start.values()), "at_start"),
        )
        return max(moments, key=lambda moment: moment[0])

    def held(self, position: int, moment: Moment) -> Held:
        """What is held beside the step's own tensors then."""
        stretch = self.stretches[position]
        if moment == "before_gradients":
            return stretch.during if stretch.before_gradients is None else stretch.before_gradients
        return {"during": stretch.during, "at_end": stretch.at_end, "at_start": stretch.at_start}[moment]


def summed(values: Sequence[int]) -> list[int]:
    """Sums of the first 0, 1, 2, … values."""
    return list(accumulate(values, initial=0))
