"""`PythonPools` in C (planner/native): the same readings some thirty times as fast, and without the GIL.

Tensors are known by handles. Each call raises OutOfDeviceMemoryError where the capacity forbids it,
even with the cache emptied, and OverflowError where a run needs more than the 128 TiB that the C has addresses for:
then `PythonPools` answer.
"""

import ctypes
from array import array
from collections.abc import Callable

from planner.allocator.caching_allocator import OutOfDeviceMemoryError
from planner.allocator.python_pools import Moves, PythonPools, one_by_one
from planner.native_library import native_library

_NO_CAPACITY = -1
_OUT_OF_DEVICE_MEMORY, _BEYOND_RANGE = -1, -2


class _Readings(ctypes.Structure):
    """The beginning of the C's `pools`."""

    _fields_ = [(name, ctypes.c_int64) for name in ("allocated", "reserved", "peak_reserved", "requested", "shortage")]


class NativePools:
    """Both pools. `expandable`: each is one growing range, in pages of 20 or 2 MiB, cut to 512 bytes.

    `oldest_first`: of equally large free blocks, take the oldest segment's, as torch does from 2.14 on.
    """

    def __init__(
        self,
        *,
        expandable: bool = False,
        capacity_bytes: int | None = None,
        oldest_first: bool = True,
        like: int | None = None,
    ) -> None:
        """`like`: the C's pools to copy.

        Raises:
            RuntimeError: the library is not there.
        """
        library = native_library()
        if library is None:
            msg = "the C of planner/native was not built"
            raise RuntimeError(msg)
        self._library = library
        capacity = _NO_CAPACITY if capacity_bytes is None else capacity_bytes
        new = library.pools_new(expandable, oldest_first, capacity) if like is None else library.pools_copy(like)
        self._pools = new
        if not self._pools:
            raise MemoryError
        self._readings = _Readings.from_address(self._pools)

    def __del__(self) -> None:
        if pools := getattr(self, "_pools", None):
            self._library.pools_delete(pools)

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the blocks taken."""
        return int(self._readings.allocated)

    @property
    def reserved_bytes(self) -> int:
        """Bytes of the segments now."""
        return int(self._readings.reserved)

    @property
    def peak_reserved_bytes(self) -> int:
        """Bytes of the segments at most."""
        return int(self._readings.peak_reserved)

    def copy(self) -> "NativePools":
        """The same blocks in pools of their own."""
        return NativePools(like=self._pools)

    def allocate(self, size_bytes: int) -> int:
        """Serve one tensor; returns its handle."""
        return self._checked(self._library.pools_allocate(self._pools, _held(size_bytes)))

    def allocate_many(self, sizes: "array[int]") -> "array[int]":
        """Serve one tensor for each of `sizes`; returns their handles."""
        made = array("i", bytes(4 * len(sizes)))
        self._checked(self._library.pools_allocate_many(self._pools, _at(sizes), len(sizes), _at(made)))
        return made

    def cast_many(self, sizes: "array[int]", handles: "array[int]") -> None:
        """Make a tensor of each of `sizes` that is not 0 in place of the one at its handle, one after the other."""
        self._checked(self._library.pools_cast_many(self._pools, _at(sizes), len(sizes), _at(handles)))

    def free(self, handle: int) -> None:
        """Take a block back and merge it with free neighbours."""
        self._library.pools_free(self._pools, handle)

    def free_many(self, handles: "array[int]") -> None:
        """Take blocks back, all at a time."""
        self._library.pools_free_many(self._pools, _at(handles), len(handles))

    def free_slots(self, slots: "array[int]", places: "array[int]") -> None:
        """Take back what lies at `slots` of `places`, all at a time."""
        self._library.pools_free_slots(self._pools, _at(slots), len(slots), _at(places))

    def empty_cache(self) -> None:
        """Give back every segment that holds nothing; of an expandable one, the whole pages at its end."""
        self._library.pools_empty_cache(self._pools)

    def play(self, moves: Moves, places: list[int]) -> None:
        """Many moves, as `PythonPools.play`."""
        one_by_one(self, moves, places)

    def play_instances(self, script: "array[int]", sizes: "array[int]", places: "array[int]", instances: range) -> None:
        """Play `instances` of a flat script (planner/answer/replay/flat_script.py); handles by slot go to `places`."""
        given = (_at(script), _at(sizes), _at(places), instances.start, instances.stop)
        self._checked(self._library.pools_play(self._pools, *given))

    def _checked(self, result: int) -> int:
        if result >= 0:
            return result
        if result == _OUT_OF_DEVICE_MEMORY:
            raise OutOfDeviceMemoryError(self._readings.requested, self._readings.shortage)
        raise OverflowError if result == _BEYOND_RANGE else MemoryError


FastPools = NativePools | PythonPools


def fast_pools(
    *, expandable: bool = False, capacity_bytes: int | None = None, oldest_first: bool = True
) -> FastPools:
    """The pools in C, or in Python where the C was not built."""
    kind: Callable[..., FastPools] = PythonPools if native_library() is None else NativePools
    return kind(expandable=expandable, capacity_bytes=capacity_bytes, oldest_first=oldest_first)


def _held(size_bytes: int) -> int:
    """`size_bytes`, which ctypes would cut to 64 bits without a word.

    Raises:
        OverflowError: they are not enough.
    """
    if size_bytes >> 63:
        raise OverflowError
    return size_bytes


def _at(numbers: "array[int]") -> int:
    return numbers.buffer_info()[0]
