"""The pools reserve what the full model of the allocator reserves, whatever happens in whatever order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.allocator.caching_allocator import Block, CachingAllocator, OutOfDeviceMemoryError
from planner.allocator.expandable_segments import ExpandableAllocator
from planner.allocator.python_pools import PythonPools
from planner.units import MIB, allocated

# Sizes on both sides of every boundary: 1, 10 and 20 MiB.
SIZES = st.one_of(
    st.integers(1, 4096),
    st.integers(MIB // 2, 3 * MIB),
    st.integers(9 * MIB, 11 * MIB),
    st.integers(15 * MIB, 40 * MIB),
)
# Allocate so many bytes, or free the n-th of what is alive, or empty the cache.
MOVES = st.lists(st.one_of(SIZES, st.integers(-60, -1), st.none()), max_size=80)


def play(moves: list[int | None], full: CachingAllocator, pools: PythonPools) -> None:
    alive: list[tuple[Block, int]] = []
    for move in moves:
        if move is None:
            full.empty_cache()
            pools.empty_cache()
        elif move > 0:
            alive.append((full.allocate(move), pools.allocate(move)))
        elif alive:
            block, handle = alive.pop(move % len(alive))
            full.free(block)
            pools.free(handle)
        assert (pools.allocated_bytes, pools.reserved_bytes) == (full.allocated_bytes, full.reserved_bytes)
    assert pools.peak_reserved_bytes == full.peak_reserved_bytes


@given(MOVES, st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_order_of_tensors_reserves_what_the_full_allocator_reserves(
    moves: list[int | None], oldest_first: bool
) -> None:
    play(moves, CachingAllocator(oldest_first=oldest_first), PythonPools(oldest_first=oldest_first))


@given(MOVES, st.integers(20 * MIB, 400 * MIB), st.booleans())
@settings(max_examples=300, deadline=None)
def test_short_of_room_it_gives_back_and_fails_where_the_full_allocator_does(
    moves: list[int | None], capacity_bytes: int, oldest_first: bool
) -> None:
    full = CachingAllocator(capacity_bytes, oldest_first=oldest_first)
    pools = PythonPools(capacity_bytes=capacity_bytes, oldest_first=oldest_first)
    try:
        play(moves, full, pools)
    except OutOfDeviceMemoryError as error:
        failed = error.requested_bytes
        with pytest.raises(OutOfDeviceMemoryError):
            pools.allocate(failed)


@given(MOVES.map(lambda moves: [move for move in moves if move is not None]))
@settings(max_examples=300, deadline=None)
def test_expandable_segments_grow_as_the_full_allocator_grows_them(moves: list[int]) -> None:
    play(list(moves), ExpandableAllocator(), PythonPools(expandable=True))


@given(MOVES.map(lambda moves: [move for move in moves if move is not None]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_many_moves_at_once_do_what_they_do_one_by_one(moves: list[int], expandable: bool) -> None:
    one_by_one, at_once = PythonPools(expandable=expandable), PythonPools(expandable=expandable)
    script, alive, places = [], [], [0] * len(moves)
    sizes = [allocated(max(move, 0)) for move in moves]
    for slot, move in enumerate(moves):
        if move > 0:
            script.append((sizes[slot], slot))
            alive.append((slot, one_by_one.allocate(move)))
        elif alive:
            taken, handle = alive.pop(move % len(alive))
            script.append((sizes[taken], ~taken))
            one_by_one.free(handle)
    at_once.play(script, places)
    assert at_once.reserved_bytes == one_by_one.reserved_bytes
    assert at_once.allocated_bytes == one_by_one.allocated_bytes


def test_a_copy_lives_on_its_own() -> None:
    pools = PythonPools()
    handle = pools.allocate(30 * MIB)
    twin = pools.copy()
    pools.free(handle)
    assert (pools.allocated_bytes, twin.allocated_bytes) == (0, 30 * MIB)
    twin.free(handle)
    assert twin.reserved_bytes == 30 * MIB
