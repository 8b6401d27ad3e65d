"""The caching allocator's large pool in as few Python steps as it takes: what reserved bytes depend on.

The same rules as `caching_allocator.py` (c10/cuda/CUDACachingAllocator.cpp), for requests above 1 MiB: a plan plays a
whole training step through it, so every step counts. Free blocks are kept as single integers, size above address, so
that one bisection finds the best fit and, of equals, the lowest address: the oldest segment's, where segments are laid
upwards, and the newest's, where they are laid downwards.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Protocol

from planner.allocator.caching_allocator import (
    LARGE_SEGMENT_BYTES,
    MIN_BLOCK_BYTES,
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


class Pool(Protocol):
    """What a run is played through; tensors are known by their addresses."""

    def allocate(self, size_bytes: int) -> int:
        """Serve one tensor; returns its address."""

    def free(self, address: int) -> None:
        """Take a block back."""


def one_by_one(pool: Pool, moves: Sequence[tuple[int, int]], places: list[int]) -> None:
    """(bytes, slot) allocates, (bytes, ~slot) frees what `places[slot]` says."""
    for size, slot in moves:
        if slot >= 0:
            places[slot] = pool.allocate(size)
        else:
            pool.free(places[~slot])


class LargePool:
    """Blocks above 1 MiB. `expandable`: one growing range in pages of 20 MiB, cut to 512 bytes.

    With a capacity, requests raise OutOfDeviceMemoryError where it forbids a segment even with the cache emptied.
    `oldest_first`: of equally large free blocks, take the oldest segment's, as torch does from 2.14 on.
    """

    def __init__(
        self, *, expandable: bool = False, capacity_bytes: int | None = None, oldest_first: bool = True
    ) -> None:
        self.expandable, self.capacity_bytes, self.oldest_first = expandable, capacity_bytes, oldest_first
        self.allocated_bytes = self.reserved_bytes = self.peak_reserved_bytes = 0
        self._smallest_rest_bytes = MIN_BLOCK_BYTES if expandable else SMALL_SIZE_BYTES + 1
        self._free: list[int] = []
        self._size_at: dict[int, int] = {}
        self._start_of: dict[int, int] = {}
        self._used: dict[int, int] = {}
        self._segments: dict[int, int] = {}
        self._edge = 0 if expandable or oldest_first else _HIGHEST_ADDRESS

    def copy(self) -> "LargePool":
        """The same blocks in a pool of their own."""
        twin = LargePool(
            expandable=self.expandable, capacity_bytes=self.capacity_bytes, oldest_first=self.oldest_first
        )
        twin.allocated_bytes, twin.reserved_bytes = self.allocated_bytes, self.reserved_bytes
        twin.peak_reserved_bytes, twin._edge = self.peak_reserved_bytes, self._edge
        twin._free, twin._size_at, twin._start_of = self._free.copy(), self._size_at.copy(), self._start_of.copy()
        twin._used, twin._segments = self._used.copy(), self._segments.copy()
        return twin

    def allocate(self, size_bytes: int) -> int:
        """Serve one tensor; returns its address."""
        size = allocated(size_bytes)
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
        """Take a block back and merge it with free neighbours."""
        size = self._used.pop(address)
        self.allocated_bytes -= size
        below = self._start_of.get(address)
        if below is not None:
            size += self._withdraw(below)
            address = below
        if address + size in self._size_at:
            size += self._withdraw(address + size)
        self._offer(address, size)

    def play(self, moves: Sequence[tuple[int, int]], places: list[int]) -> None:
        """Many moves at once: (bytes, slot) allocates, (bytes, ~slot) frees what `places[slot]` says.

        Bytes are rounded and above 1 MiB. This is `allocate` and `free` written into one loop, which a plan waits for.
        """
        if self.expandable:
            one_by_one(self, moves, places)
            return
        free, size_at, start_of, used = self._free, self._size_at, self._start_of, self._used
        find, insert, least = bisect_left, insort, self._smallest_rest_bytes
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
                places[slot] = address
            else:
                address = places[~slot]
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
        """Give back every segment that holds nothing; of an expandable one, the whole pages at its end."""
        if self.expandable:
            last = self._start_of.get(self._edge)
            if last is not None:
                size = self._withdraw(last)
                kept = ceil_div(last, LARGE_SEGMENT_BYTES) * LARGE_SEGMENT_BYTES - last
                self.reserved_bytes -= size - kept
                self._edge = last + kept
                if kept:
                    self._offer(last, kept)
            return
        for address, size in list(self._segments.items()):
            if self._size_at.get(address) == size:
                self._withdraw(address)
                del self._segments[address]
                self.reserved_bytes -= size

    def _can_grow(self, entry: int) -> bool:
        """The block at the range's end counts as large as it can become, so any other that is enough fits better."""
        return (entry & _ADDRESS_MASK) + (entry >> _ADDRESS_BITS) == self._edge

    def _grow(self, size: int) -> tuple[int, int]:
        if self._lacking_bytes(size) > 0:
            self.empty_cache()
            if (short_bytes := self._lacking_bytes(size)) > 0:
                raise OutOfDeviceMemoryError(size, short_bytes)
        if self.expandable:
            return self._extend(size)
        segment = segment_bytes(size)
        address = self._new_address(segment)
        self._segments[address] = segment
        self._reserve(segment)
        return address, segment

    def _new_address(self, segment: int) -> int:
        """As CachingAllocator's."""
        if self.oldest_first:
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
        self._reserve(mapped)
        return address, held + mapped

    def _needed_bytes(self, size: int) -> int:
        """What the driver must give for it."""
        if not self.expandable:
            return segment_bytes(size)
        held = self._edge - self._start_of.get(self._edge, self._edge)
        return ceil_div(size - held, LARGE_SEGMENT_BYTES) * LARGE_SEGMENT_BYTES

    def _lacking_bytes(self, size: int) -> int:
        if self.capacity_bytes is None:
            return 0
        return self.reserved_bytes + self._needed_bytes(size) - self.capacity_bytes

    def _reserve(self, size: int) -> None:
        self.reserved_bytes += size
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)

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
