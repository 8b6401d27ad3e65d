"""A step's script as planner/native/play.c reads it, which says what stands where."""

from array import array
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain

from planner.step.schedule import Script


# As many as planner/step/schedule.py keeps scripts.
@lru_cache(maxsize=512)
def flat_script(script: Script) -> "array[int]":
    """Its patterns and scenes, one after the other."""
    numbers = {id(pattern): number for number, pattern in enumerate(script.patterns)}
    parts = [
        [
            len(each.moves), each.made, len(each.left),
            *chain.from_iterable(
                (index * 2 + passes, number)
                for (index, number), passes in zip(each.moves, each.passing, strict=True)
            ),
            *each.left,
        ]
        for each in script.patterns
    ]  # fmt: skip
    parts += [
        [numbers[id(each.pattern)], each.large, each.small, len(each.freed), *each.freed, *each.left]
        for each in script.scenes
    ]
    begins = accumulate(map(len, parts[:-1]), initial=2 + len(parts))
    return array("i", [len(script.patterns), len(script.scenes), *begins, *chain.from_iterable(parts)])


@dataclass(frozen=True, slots=True)
class SlotsAtEnds:
    """Where the tensors are that go when the backward pass is over, and those that go when the optimizer has run."""

    left: "array[int]"
    gradients: "array[int]"


@lru_cache(maxsize=512)
def slots_at_ends(script: Script) -> SlotsAtEnds:
    """As arrays, which the C takes."""
    left, gradients = (array("i", [slot for _, slot in moves]) for moves in (script.left, script.gradients))
    return SlotsAtEnds(left, gradients)
