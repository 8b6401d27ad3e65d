"""The large pool reserves what the full model of the allocator reserves, whatever happens in whatever order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.allocator.caching_allocator import Block, CachingAllocator, OutOfDeviceMemoryError
from planner.allocator.expandable_segments import ExpandableAllocator
from planner.allocator.large_pool import LargePool
from planner.units import MIB, allocated

# Sizes on both sides of every boundary of the large pool: 1, 10 and 20 MiB.
SIZES = st.one_of(st.integers(1 * MIB + 1, 3 * MIB), st.integers(9 * MIB, 11 * MIB), st.integers(15 * MIB, 40 * MIB))
# Allocate so many bytes, or free the n-th of what is alive, or empty the cache.
MOVES = st.lists(st.one_of(SIZES, st.integers(-60, -1), st.none()), max_size=80)


def play(moves: list[int | None], full: CachingAllocator, pool: LargePool) -> None:
    alive: list[tuple[Block, int]] = []
    for move in moves:
        if move is None:
            full.empty_cache()
            pool.empty_cache()
        elif move > 0:
            alive.append((full.allocate(move), pool.allocate(move)))
        elif alive:
            block, address = alive.pop(move % len(alive))
            full.free(block)
            pool.free(address)
        assert (pool.allocated_bytes, pool.reserved_bytes) == (full.allocated_bytes, full.reserved_bytes)
    assert pool.peak_reserved_bytes == full.peak_reserved_bytes


@given(MOVES, st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_order_of_large_tensors_reserves_what_the_full_allocator_reserves(
    moves: list[int | None], oldest_first: bool
) -> None:
    play(moves, CachingAllocator(oldest_first=oldest_first), LargePool(oldest_first=oldest_first))


@given(MOVES, st.integers(20 * MIB, 400 * MIB), st.booleans())
@settings(max_examples=300, deadline=None)
def test_short_of_room_it_gives_back_and_fails_where_the_full_allocator_does(
    moves: list[int | None], capacity_bytes: int, oldest_first: bool
) -> None:
    full = CachingAllocator(capacity_bytes, oldest_first=oldest_first)
    pool = LargePool(capacity_bytes=capacity_bytes, oldest_first=oldest_first)
    try:
        play(moves, full, pool)
    except OutOfDeviceMemoryError as error:
        failed = error.requested_bytes
        with pytest.raises(OutOfDeviceMemoryError):
            pool.allocate(failed)


@given(MOVES.map(lambda moves: [move for move in moves if move is not None]))
@settings(max_examples=300, deadline=None)
def test_expandable_segments_grow_as_the_full_allocator_grows_them(moves: list[int]) -> None:
    play(list(moves), ExpandableAllocator(), LargePool(expandable=True))


@given(MOVES.map(lambda moves: [move for move in moves if move is not None]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_many_moves_at_once_do_what_they_do_one_by_one(moves: list[int], expandable: bool) -> None:
    one_by_one, at_once = LargePool(expandable=expandable), LargePool(expandable=expandable)
    script, alive, places = [], [], [0] * len(moves)
    for slot, move in enumerate(moves):
        if move > 0:
            script.append((allocated(move), slot))
            alive.append((slot, one_by_one.allocate(move)))
        elif alive:
            taken, address = alive.pop(move % len(alive))
            script.append((0, ~taken))
            one_by_one.free(address)
    at_once.play(script, places)
    assert at_once.reserved_bytes == one_by_one.reserved_bytes
    assert at_once.allocated_bytes == one_by_one.allocated_bytes


def test_a_copy_lives_on_its_own() -> None:
    pool = LargePool()
    address = pool.allocate(30 * MIB)
    twin = pool.copy()
    pool.free(address)
    assert (pool.allocated_bytes, twin.allocated_bytes) == (0, 30 * MIB)
    twin.free(address)
    assert twin.reserved_bytes == 30 * MIB
