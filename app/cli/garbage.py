"""How often the interpreter looks for objects that refer to each other and to which nothing else does.

It does so after so many new ones, and what a start makes is nearly all kept: modules, classes, catalogues. Looking
through it again and again took a tenth of `fitproof plan`. A server, which runs on, looks as often as Python does.
"""

import gc

_AS_PYTHON_DOES = gc.get_threshold()
# As many as there are when `fitproof plan` ends; its memory is the same at most, 59,050 KiB.
_NEW_OBJECTS = 100_000


def seldom() -> None:
    """For a program that starts, answers and ends."""
    gc.set_threshold(_NEW_OBJECTS, *_AS_PYTHON_DOES[1:])


def as_usual() -> None:
    """For one that stays."""
    gc.set_threshold(*_AS_PYTHON_DOES)
