"""A step's script as planner/native/play.c reads it, which says what stands where."""

from array import array
from functools import lru_cache

from planner.step.schedule import Script

_MOVE_BYTES = 8


# As many as planner/step/schedule.py keeps scripts.
@lru_cache(maxsize=512)
def flat_script(script: Script) -> "array[int]":
    """Its patterns and instances, one after the other."""
    numbers = {id(pattern): number for number, pattern in enumerate(script.patterns)}
    begins, flat = [], array("i")
    for pattern in script.patterns:
        begins.append(len(flat))
        flat.extend((len(pattern.moves) // _MOVE_BYTES, pattern.made, len(pattern.left)))
        flat.frombytes(pattern.moves)
        flat.extend(pattern.left)
    for instance in script.instances:
        begins.append(len(flat))
        flat.extend((numbers[id(instance.pattern)], instance.large, instance.small, len(instance.freed)))
        flat.extend(instance.freed)
        flat.extend(instance.left)
    head = 2 + len(begins)
    return array("i", [len(script.patterns), len(script.instances), *(head + each for each in begins)]) + flat
