"""Bytes of a program's tensors, by key, once the dimensions have their numbers.

In C where that was built (planner/native/sizes.c), as every plan asks it of some hundred sizes; else in Python.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

from planner.native_library import native_library
from planner.step.engine.events import Size
from planner.units import ALLOCATION_GRANULE_BYTES

if TYPE_CHECKING:
    from planner.step.engine.program import Program

# A sum of as many of these as there are moves stays below 2^63.
_MOST_NATIVE_BYTES = 1 << 44


def tables_of(program: "Program", numbers: Sequence[Mapping[str, int]]) -> tuple[Sequence[int], ...]:
    """Bytes of each key, for each kind of layer; equal for kinds that share their numbers."""
    known: dict[int, Sequence[int]] = {}
    for table in numbers:
        if id(table) not in known:
            known[id(table)] = _table_natively(program, table) or table_in_python(program, table)
    return tuple(known[id(table)] for table in numbers)


def table_in_python(program: "Program", numbers: Mapping[str, int]) -> Sequence[int]:
    """Bytes of each key where every dimension has its number."""
    sizes = bytes_of(program.sizes, numbers)
    return for_native([sizes[size] for _, size in program.keys])


def bytes_of(sizes: Iterable[Size], numbers: Mapping[str, int]) -> dict[Size, int]:
    """What the allocator hands out for one tensor of each size: its bytes rounded up, then up to whole granules."""
    value, granule = numbers.__getitem__, ALLOCATION_GRANULE_BYTES
    return {
        size: (-(-size.num * prod(map(value, size.dims)) // size.den) + granule - 1) // granule * granule
        for size in sizes
    }


def for_native(table: list[int]) -> Sequence[int]:
    """Bytes by key as the C reads them, or as they are where they are more than it can add up."""
    return array("q", table) if max(table, default=0) <= _MOST_NATIVE_BYTES else table


def _table_natively(program: "Program", numbers: Mapping[str, int]) -> "array[int] | None":
    """None: there is no library, or a size is too large for it."""
    library = native_library()
    if library is None:
        return None
    names, keys = _flat_keys(program)
    try:
        values = array("q", [numbers[name] for name in names])
    except OverflowError:
        return None
    table = array("q", bytes(8 * len(program.keys)))
    given = (keys.buffer_info()[0], values.buffer_info()[0], ALLOCATION_GRANULE_BYTES, table.buffer_info()[0])
    return None if library.bytes_of_keys(*given) else table


# As many as there are scripts (planner/step/schedule.py).
@lru_cache(maxsize=512)
def _flat_keys(program: "Program") -> tuple[tuple[str, ...], "array[int]"]:
    """The dimensions that a program's sizes have, and its keys as the C reads them."""
    places: dict[str, int] = {}
    flat = array("q", [len(program.keys)])
    for _, size in program.keys:
        flat.extend((size.num, size.den, len(size.dims)))
        flat.extend(places.setdefault(name, len(places)) for name in size.dims)
    return tuple(places), flat
