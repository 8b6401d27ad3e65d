"""A step's script as planner/native/play.c reads it, which says what stands where."""

from array import array
from functools import lru_cache
from itertools import accumulate, chain

from planner.step.scenes import Moves
from planner.step.schedule import Script


# As many as planner/step/schedule.py keeps scripts.
@lru_cache(maxsize=512)
def flat_script(script: Script) -> "array[int]":
    """Its patterns and scenes, one after the other."""
    numbers = {id(pattern): number for number, pattern in enumerate(script.patterns)}
    parts = [
        [len(each.moves), each.made, len(each.left), *chain.from_iterable(each.moves), *each.left]
        for each in script.patterns
    ]
    parts += [
        [numbers[id(each.pattern)], numbers[id(each.whole)], len(each.freed), *each.freed, *each.left]
        for each in script.scenes
    ]
    begins = accumulate(map(len, parts[:-1]), initial=2 + len(parts))
    return array("i", [len(script.patterns), len(script.scenes), *begins, *chain.from_iterable(parts)])


@lru_cache(maxsize=1024)
def flat_pairs(moves: Moves) -> "array[int]":
    """(index of the size, slot), one after the other."""
    return array("i", chain.from_iterable(moves))
