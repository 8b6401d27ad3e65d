"""`LargePool` in C (planner/native): the same readings some thirty times as fast, and without the GIL.

Tensors are known by the number of their block. Each call raises OutOfDeviceMemoryError where the capacity forbids it,
even with the cache emptied, and OverflowError where a run needs more than the 128 TiB that the C has addresses for:
then `LargePool` answers.
"""

import ctypes
from array import array
from collections.abc import Callable, Sequence

from planner.allocator.caching_allocator import OutOfDeviceMemoryError
from planner.allocator.large_pool import LargePool, one_by_one
from planner.native_library import native_library

_NO_CAPACITY = -1
_OUT_OF_DEVICE_MEMORY, _BEYOND_RANGE = -1, -2


class _Readings(ctypes.Structure):
    """The beginning of the C's `pool`."""

    _fields_ = [(name, ctypes.c_int64) for name in ("allocated", "reserved", "peak_reserved", "requested", "shortage")]


class NativePool:
    """Blocks above 1 MiB. `expandable`: one growing range in pages of 20 MiB, cut to 512 bytes.

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
        """`like`: the C's pool to copy.

        Raises:
            RuntimeError: the library is not there.
        """
        library = native_library()
        if library is None:
            msg = "the C of planner/native was not built"
            raise RuntimeError(msg)
        self._library = library
        capacity = _NO_CAPACITY if capacity_bytes is None else capacity_bytes
        self._pool = library.pool_new(expandable, oldest_first, capacity) if like is None else library.pool_copy(like)
        if not self._pool:
            raise MemoryError
        self._readings = _Readings.from_address(self._pool)

    def __del__(self) -> None:
        if pool := getattr(self, "_pool", None):
            self._library.pool_delete(pool)

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

    def copy(self) -> "NativePool":
        """The same blocks in a pool of their own."""
        return NativePool(like=self._pool)

    def allocate(self, size_bytes: int) -> int:
        """Serve one tensor; returns its block."""
        return self._checked(self._library.pool_allocate(self._pool, _held(size_bytes)))

    def allocate_many(self, size_bytes: int, count: int) -> Sequence[int]:
        """Serve `count` tensors of one size."""
        made = array("i", bytes(4 * count))
        self._checked(self._library.pool_allocate_many(self._pool, _held(size_bytes), count, _at(made)))
        return made

    def free(self, block: int) -> None:
        """Take a block back and merge it with free neighbours."""
        self._checked(self._library.pool_free(self._pool, block))

    def free_pairs(self, pairs: "array[int]", sizes: "array[int]", places: "array[int]") -> int:
        """Take back the large ones of `pairs`: (index of the size, slot of the block), one after the other.

        Returns the bytes of the others, which are not in this pool.
        """
        small = array("q", (0,))
        given = (_at(pairs), len(pairs) // 2, _at(sizes), _at(places), _at(small))
        self._checked(self._library.pool_free_pairs(self._pool, *given))
        return -small[0]

    def empty_cache(self) -> None:
        """Give back every segment that holds nothing; of an expandable one, the whole pages at its end."""
        self._checked(self._library.pool_empty_cache(self._pool))

    def play(self, moves: Sequence[tuple[int, int]], places: list[int]) -> None:
        """Many moves, as `LargePool.play`."""
        one_by_one(self, moves, places)

    def play_scenes(
        self, script: "array[int]", sizes: "array[int]", places: "array[int]", scenes: range, small: "array[int]"
    ) -> None:
        """Play `scenes` of a flat script (planner/answer/flat_script.py); blocks by slot go to `places`.

        `small`: what the small pool holds, and its peak; both are kept up.
        """
        given = (_at(script), _at(sizes), _at(places), scenes.start, scenes.stop, _at(small))
        self._checked(self._library.pool_play(self._pool, *given))

    def _checked(self, result: int) -> int:
        if result >= 0:
            return result
        if result == _OUT_OF_DEVICE_MEMORY:
            raise OutOfDeviceMemoryError(self._readings.requested, self._readings.shortage)
        raise OverflowError if result == _BEYOND_RANGE else MemoryError


FastPool = NativePool | LargePool


def fast_pool(
    *, expandable: bool = False, capacity_bytes: int | None = None, oldest_first: bool = True
) -> FastPool:
    """The pool in C, or in Python where the C was not built."""
    kind: Callable[..., FastPool] = LargePool if native_library() is None else NativePool
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
