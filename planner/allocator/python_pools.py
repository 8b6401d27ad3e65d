"""The caching allocator's two pools in as few Python steps as it takes: what reserved bytes depend on.

The same rules as `caching_allocator.py` (c10/cuda/CUDACachingAllocator.cpp), for plans where the C of native_pools.py
could not be built: a plan plays whole training steps, so every step counts. Free blocks are kept as single integers,
size above address, so that one bisection finds the best fit and, of equals, the lowest address: the oldest segment's,
where segments are laid upwards, and the newest's, where they are laid downwards.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Protocol

from planner.allocator.caching_allocator import (
    LARGE_SEGMENT_BYTES,
    MIN_BLOCK_BYTES,
    SMALL_SEGMENT_BYTES,
    SMALL_SIZE_BYTES,
    OutOfDeviceMemoryError,
    segment_bytes,
)
from planner.units import allocated, ceil_div

# Wider than any machine's: a plan that asks for exabytes is told so. The largest request anyone may write, 65,536
# sequences of 2^24 tokens, holds some 2^76 bytes in the largest tensor of a config that is let in.
_ADDRESS_BITS = 96
_HIGHEST_ADDRESS = 1 << (_ADDRESS_BITS - 1)
_ADDRESS_MASK = (1 << _ADDRESS_BITS) - 1
# Segments never touch, so that free blocks of two of them never merge.
_GAP_BYTES = MIN_BLOCK_BYTES
# The handle of a tensor without elements.
_NOTHING = -1

# Moves of a pattern: (bytes, slot) allocates, (bytes, ~slot) frees what `places[slot]` says.
Moves = Sequence[tuple[int, int]]


class Pools(Protocol):
    """What a run is played through; tensors are known by their handles."""

    def allocate(self, size_bytes: int) -> int:
        """Serve one tensor; returns its handle."""

    def free(self, handle: int) -> None:
        """Take a block back."""


def one_by_one(pools: Pools, moves: Moves, places: list[int]) -> None:
    """Play `moves` in their order; handles by slot are in `places`."""
    for size, slot in moves:
        if slot >= 0:
            places[slot] = pools.allocate(size)
        else:
            pools.free(places[~slot])


class PythonPools:
    """Both pools. `expandable`: each is one growing range, in pages of 20 or 2 MiB, cut to 512 bytes.

    With a capacity, requests raise OutOfDeviceMemoryError where it forbids a segment even with the cache emptied.
    `oldest_first`: of equally large free blocks, take the oldest segment's, as torch does from 2.14 on.
    """

    def __init__(
        self, *, expandable: bool = False, capacity_bytes: int | None = None, oldest_first: bool = True
    ) -> None:
        self.expandable, self.capacity_bytes, self.oldest_first = expandable, capacity_bytes, oldest_first
        self.reserved_bytes = self.peak_reserved_bytes = 0
        self._large, self._small = _Pool(self, small=False), _Pool(self, small=True)

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the blocks taken."""
        return self._large.allocated_bytes + self._small.allocated_bytes

    def copy(self) -> "PythonPools":
        """The same blocks in pools of their own."""
        twin = PythonPools(
            expandable=self.expandable, capacity_bytes=self.capacity_bytes, oldest_first=self.oldest_first
        )
        twin.reserved_bytes, twin.peak_reserved_bytes = self.reserved_bytes, self.peak_reserved_bytes
        twin._large, twin._small = self._large.copy(twin), self._small.copy(twin)
        return twin

    def allocate(self, size_bytes: int) -> int:
        """Serve one tensor; returns its handle."""
        size = allocated(size_bytes)
        if size == 0:
            return _NOTHING
        if size <= SMALL_SIZE_BYTES:
            return self._small.allocate(size) << 1 | 1
        return self._large.allocate(size) << 1

    def free(self, handle: int) -> None:
        """Take a block back and merge it with free neighbours."""
        if handle != _NOTHING:
            (self._small if handle & 1 else self._large).free(handle >> 1)

    def play(self, moves: Moves, places: list[int]) -> None:
        """Many moves at once; bytes are rounded. The pools meet only where there is a capacity."""
        if self.expandable or self.capacity_bytes is not None:
            one_by_one(self, moves, places)
            return
        self._large.play([move for move in moves if move[0] > SMALL_SIZE_BYTES], places)
        self._small.play([move for move in moves if 0 < move[0] <= SMALL_SIZE_BYTES], places)

    def empty_cache(self) -> None:
        """Give back every segment that holds nothing; of an expandable one, the whole pages at its end."""
        self._large.empty_cache()
        self._small.empty_cache()

    def reserve(self, size: int) -> None:
        """Count a segment."""
        self.reserved_bytes += size
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)


class _Pool:
    """One of them: blocks known by address. `whole` keeps the account of both."""

    def __init__(self, whole: PythonPools, *, small: bool) -> None:
        self.whole, self.is_small, self.expandable = whole, small, whole.expandable
        self.allocated_bytes = 0
        self._smallest_rest_bytes = MIN_BLOCK_BYTES if small or self.expandable else SMALL_SIZE_BYTES + 1
        self._page_bytes = SMALL_SEGMENT_BYTES if small else LARGE_SEGMENT_BYTES
        self._free: list[int] = []
        self._size_at: dict[int, int] = {}
        self._start_of: dict[int, int] = {}
        self._used: dict[int, int] = {}
        self._segments: dict[int, int] = {}
        self._edge = 0 if self.expandable or whole.oldest_first else _HIGHEST_ADDRESS

    def copy(self, whole: PythonPools) -> "_Pool":
        twin = _Pool(whole, small=self.is_small)
        twin.allocated_bytes, twin._edge = self.allocated_bytes, self._edge
        twin._free, twin._size_at, twin._start_of = self._free.copy(), self._size_at.copy(), self._start_of.copy()
        twin._used, twin._segments = self._used.copy(), self._segments.copy()
        return twin

    def allocate(self, size: int) -> int:
        free = self._free
        index = bisect_left(free, size << _ADDRESS_BITS)
        if index < len(free):
            if self.expandable and index + 1 < len(free) and self._can_grow(free[index]):
                index += 1
            entry = free.pop(index)
            block, address = entry >> _ADDRESS_BITS, entry & _ADDRESS_MASK
            del self._size_at[address], self._start_of[address + block]
        else:
            address, block = self._grow(size)
        rest = block - size
        if rest >= self._smallest_rest_bytes:
            block = size
            self._offer(address + size, rest)
        self._used[address] = block
        self.allocated_bytes += block
        return address

    def free(self, address: int) -> None:
        size = self._used.pop(address)
        self.allocated_bytes -= size
        below = self._start_of.get(address)
        if below is not None:
            size += self._withdraw(below)
            address = below
        if address + size in self._size_at:
            size += self._withdraw(address + size)
        self._offer(address, size)

    def play(self, moves: Moves, places: list[int]) -> None:
        """`allocate` and `free` written into one loop, which a plan waits for."""
        free, size_at, start_of, used = self._free, self._size_at, self._start_of, self._used
        find, insert, least, kind = bisect_left, insort, self._smallest_rest_bytes, int(self.is_small)
        bits, mask = _ADDRESS_BITS, _ADDRESS_MASK
        for size, slot in moves:
            if slot >= 0:
                index = find(free, size << bits)
                if index < len(free):
                    entry = free.pop(index)
                    address = entry & mask
                    block = entry >> bits
                    end = address + block
                    del size_at[address]
                else:
                    address, block = self._grow(size)
                    end = address + block
                rest = block - size
                if rest >= least:
                    cut = address + size
                    insert(free, rest << bits | cut)
                    size_at[cut] = rest
                    start_of[end] = cut
                    used[address] = size
                else:
                    start_of.pop(end, None)
                    used[address] = block
                places[slot] = address << 1 | kind
            else:
                address = places[~slot] >> 1
                block = used.pop(address)
                end = address + block
                if address in start_of:
                    below = start_of.pop(address)
                    lower = size_at[below]
                    del free[find(free, lower << bits | below)]
                    address = below
                    block += lower
                if end in size_at:
                    upper = size_at.pop(end)
                    del free[find(free, upper << bits | end)]
                    block += upper
                    end += upper
                insert(free, block << bits | address)
                size_at[address] = block
                start_of[end] = address
        self.allocated_bytes = sum(used.values())

    def empty_cache(self) -> None:
        if self.expandable:
            last = self._start_of.get(self._edge)
            if last is not None:
                size = self._withdraw(last)
                kept = ceil_div(last, self._page_bytes) * self._page_bytes - last
                self.whole.reserved_bytes -= size - kept
                self._edge = last + kept
                if kept:
                    self._offer(last, kept)
            return
        for address, size in list(self._segments.items()):
            if self._size_at.get(address) == size:
                self._withdraw(address)
                del self._segments[address]
                self.whole.reserved_bytes -= size

    def _can_grow(self, entry: int) -> bool:
        """The block at the range's end counts as large as it can become, so any other that is enough fits better."""
        return (entry & _ADDRESS_MASK) + (entry >> _ADDRESS_BITS) == self._edge

    def _grow(self, size: int) -> tuple[int, int]:
        if self._lacking_bytes(size) > 0:
            self.whole.empty_cache()
            if (short_bytes := self._lacking_bytes(size)) > 0:
                raise OutOfDeviceMemoryError(size, short_bytes)
        if self.expandable:
            return self._extend(size)
        segment = segment_bytes(size)
        address = self._new_address(segment)
        self._segments[address] = segment
        self.whole.reserve(segment)
        return address, segment

    def _new_address(self, segment: int) -> int:
        """As CachingAllocator's."""
        if self.whole.oldest_first:
            self._edge += segment + _GAP_BYTES
            return self._edge - segment
        self._edge -= segment + _GAP_BYTES
        return self._edge

    def _extend(self, size: int) -> tuple[int, int]:
        """Map pages behind the range; a free block at its end is part of the new one."""
        mapped = self._needed_bytes(size)
        address = self._start_of.get(self._edge, self._edge)
        held = self._withdraw(address) if address != self._edge else 0
        self._edge += mapped
        self.whole.reserve(mapped)
        return address, held + mapped

    def _needed_bytes(self, size: int) -> int:
        """What the driver must give for it."""
        if not self.expandable:
            return segment_bytes(size)
        held = self._edge - self._start_of.get(self._edge, self._edge)
        return ceil_div(size - held, self._page_bytes) * self._page_bytes

    def _lacking_bytes(self, size: int) -> int:
        if self.whole.capacity_bytes is None:
            return 0
        return self.whole.reserved_bytes + self._needed_bytes(size) - self.whole.capacity_bytes

    def _offer(self, address: int, size: int) -> None:
        insort(self._free, size << _ADDRESS_BITS | address)
        self._size_at[address] = size
        self._start_of[address + size] = address

    def _withdraw(self, address: int) -> int:
        """Take a free block off the list; returns its size."""
        size = self._size_at.pop(address)
        del self._start_of[address + size]
        del self._free[bisect_left(self._free, size << _ADDRESS_BITS | address)]
        return size
