"""The allocator with `expandable_segments:True`: one growing address range per pool instead of many segments.

Rules read in c10/cuda/CUDACachingAllocator.cpp (find_expandable_block, map_block, try_allocate_expandable_block,
unmap_block, and the expandable branches of get_free_block and should_split). Pages are 2 MiB in the small pool and
20 MiB in the large one. Memory is mapped page by page at the end of the range, so neighbours of any size merge, and a
block is always split.
"""

from bisect import bisect_left, insort
from operator import attrgetter

from planner.allocator.caching_allocator import (
    LARGE_SEGMENT_BYTES,
    MIN_BLOCK_BYTES,
    SMALL_SEGMENT_BYTES,
    Block,
    CachingAllocator,
    Pool,
    absorb,
    insert_after,
    segment_bytes,
)
from planner.allocator.python_pools import Moves, one_by_one
from planner.units import ceil_div

# The driver reserves 1.125 times the card's memory in addresses; what matters here is that they never run out, and
# that a range begins at a page (a multiple of 20 MiB is one of 2 MiB too).
ADDRESS_RANGE_BYTES = LARGE_SEGMENT_BYTES << 21
_BY_ADDRESS = attrgetter("address")
# What a tensor without elements has for an address.
_NOTHING = -1


class ExpandableAllocator(CachingAllocator):
    """As `CachingAllocator`, with expandable segments."""

    def __init__(self, capacity_bytes: int | None = None) -> None:
        super().__init__(capacity_bytes)
        self._unmapped: dict[bool, list[Block]] = {}
        for index, pool in enumerate((self.small, self.large), start=1):
            everything = Block(index * ADDRESS_RANGE_BYTES, ADDRESS_RANGE_BYTES, pool, mapped=False)
            self._unmapped[pool.small] = [everything]

    def empty_cache(self) -> None:
        """Unmap every whole page that lies inside a free block."""
        for pool in (self.large, self.small):
            for block in list(pool.blocks.values()):
                self._unmap_pages_of(block)

    def _should_split(self, block: Block, size_bytes: int) -> bool:
        return block.size_bytes - size_bytes >= MIN_BLOCK_BYTES

    def _take_free(self, pool: Pool, size_bytes: int) -> Block | None:
        """Best fit, where a block that can still grow counts as large as it can become."""
        index = bisect_left(pool.keys, (size_bytes, 0))
        if index == len(pool.keys):
            return None
        block = pool.blocks[pool.keys[index][1]]
        for _, address in pool.keys[index + 1 :]:
            if _growable_bytes(pool.blocks[address]) >= _growable_bytes(block):
                break
            block = pool.blocks[address]
        pool.remove(block)
        return block

    def _grow(self, pool: Pool, size_bytes: int) -> Block | None:
        """Map pages until one free block holds `size_bytes`; None when the capacity forbids it."""
        if not self._has_room_for(segment_bytes(size_bytes)):
            return None
        block = self._growing_end(pool, size_bytes)
        if not block.mapped:
            block = self._map(block, min(size_bytes, block.size_bytes))
        while block.size_bytes < size_bytes:
            hole = block.after
            if hole is None:  # unreachable: _growing_end promised the addresses
                return None
            block = self._map(hole, min(size_bytes - block.size_bytes, hole.size_bytes))
        pool.remove(block)
        return block

    def _growing_end(self, pool: Pool, size_bytes: int) -> Block:
        """The lowest run of free and unmapped blocks with room for `size_bytes`."""
        for hole in self._unmapped[pool.small]:
            start = hole.before if hole.before is not None and not hole.before.in_use else hole
            if _run_bytes(start, size_bytes) >= size_bytes:
                return start
        msg = "the address range of an expandable segment ran out"
        raise AssertionError(msg)

    def _map(self, hole: Block, size_bytes: int) -> Block:
        """Back the low end of `hole` with pages and merge it with free neighbours."""
        pool, page_bytes = hole.pool, _page_bytes(hole.pool)
        self._unmapped[pool.small].remove(hole)
        mapped_bytes = ceil_div(size_bytes, page_bytes) * page_bytes
        if mapped_bytes < hole.size_bytes:
            rest = Block(hole.address + mapped_bytes, hole.size_bytes - mapped_bytes, pool, mapped=False)
            insert_after(hole, rest)
            insort(self._unmapped[pool.small], rest, key=_BY_ADDRESS)
            hole.size_bytes = mapped_bytes
        hole.mapped = True
        for neighbour in (hole.before, hole.after):
            if neighbour is not None and neighbour.mapped and not neighbour.in_use:
                pool.remove(neighbour)
                absorb(hole, neighbour)
        pool.add(hole)
        self._reserve(mapped_bytes)
        return hole

    def _unmap_pages_of(self, block: Block) -> None:
        pool, page_bytes = block.pool, _page_bytes(block.pool)
        begin = ceil_div(block.address, page_bytes) * page_bytes
        end = (block.address + block.size_bytes) // page_bytes * page_bytes
        if begin >= end:
            return
        pool.remove(block)
        self._keep_partial_page(block, begin, end)
        self.reserved_bytes -= block.size_bytes
        block.mapped = False
        for neighbour in (block.before, block.after):
            if neighbour is not None and not neighbour.mapped:
                self._unmapped[pool.small].remove(neighbour)
                absorb(block, neighbour)
        insort(self._unmapped[pool.small], block, key=_BY_ADDRESS)

    def _keep_partial_page(self, block: Block, begin: int, end: int) -> None:
        """Shrink `block` to [begin, end); what lies outside stays a free block."""
        pool = block.pool
        if below_bytes := begin - block.address:
            below = Block(block.address, below_bytes, pool)
            if block.before is not None:
                insert_after(block.before, below)
            else:
                below.after, block.before = block, below
            pool.add(below)
        if above_bytes := block.address + block.size_bytes - end:
            above = Block(end, above_bytes, pool)
            insert_after(block, above)
            pool.add(above)
        block.address, block.size_bytes = begin, end - begin


def _page_bytes(pool: Pool) -> int:
    return SMALL_SEGMENT_BYTES if pool.small else LARGE_SEGMENT_BYTES


def _growable_bytes(block: Block) -> int:
    hole = block.after
    return block.size_bytes + (hole.size_bytes if hole is not None and not hole.mapped else 0)


def _run_bytes(block: Block | None, enough_bytes: int) -> int:
    total_bytes = 0
    while block is not None and not block.in_use and total_bytes < enough_bytes:
        total_bytes += block.size_bytes
        block = block.after
    return total_bytes


class ExpandablePools:
    """`ExpandableAllocator` as `PythonPools` are used: with a capacity, pages are unmapped wherever they are free."""

    def __init__(self, capacity_bytes: int | None = None) -> None:
        self._allocator = ExpandableAllocator(capacity_bytes)
        self._blocks: dict[int, Block] = {}

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the blocks taken."""
        return self._allocator.allocated_bytes

    @property
    def peak_reserved_bytes(self) -> int:
        """Pages mapped at most."""
        return self._allocator.peak_reserved_bytes

    def allocate(self, size_bytes: int) -> int:
        """Serve one tensor; returns its address.

        Raises:
            OutOfDeviceMemoryError: the capacity does not allow it, even with the cache emptied.
        """
        if size_bytes == 0:
            return _NOTHING
        block = self._allocator.allocate(size_bytes)
        self._blocks[block.address] = block
        return block.address

    def free(self, address: int) -> None:
        """Take a block back."""
        if address != _NOTHING:
            self._allocator.free(self._blocks.pop(address))

    def play(self, moves: Moves, places: list[int]) -> None:
        """Many moves at once, as `PythonPools.play`."""
        one_by_one(self, moves, places)

    def empty_cache(self) -> None:
        """Unmap every whole page that lies inside a free block."""
        self._allocator.empty_cache()
