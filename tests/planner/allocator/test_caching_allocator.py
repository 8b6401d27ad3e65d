"""Hand-worked examples with addresses, and laws that must hold for any stream of requests.

Segments are laid upwards from zero, or, as before torch 2.14, downwards from `TOP`; blocks within one upwards.
"""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.allocator.caching_allocator import HIGHEST_ADDRESS as TOP
from planner.allocator.caching_allocator import CachingAllocator, OutOfDeviceMemoryError, segment_bytes
from planner.allocator.expandable_segments import ADDRESS_RANGE_BYTES, ExpandableAllocator
from planner.units import GIB, KIB, MIB


def test_a_byte_costs_512_of_a_2_mib_segment():
    allocator = CachingAllocator()
    block = allocator.allocate(1)
    assert (block.address, block.size_bytes) == (0, 512)
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (512, 2 * MIB)


def test_a_mebibyte_is_small_and_one_byte_more_is_large():
    allocator = CachingAllocator()
    assert allocator.allocate(MIB).pool.small
    assert not allocator.allocate(MIB + 1).pool.small
    assert allocator.reserved_bytes == 2 * MIB + 20 * MIB


@pytest.mark.parametrize(
    ("size_bytes", "segment"),
    [(512, 2 * MIB), (MIB + 512, 20 * MIB), (10 * MIB - 512, 20 * MIB), (10 * MIB, 10 * MIB), (11 * MIB, 12 * MIB)],
)
def test_segments_are_2_mib_20_mib_or_the_request_rounded_to_2_mib(size_bytes, segment):
    assert segment_bytes(size_bytes) == segment


def test_a_large_block_keeps_a_rest_of_one_mebibyte_and_counts_it():
    allocator = CachingAllocator()
    allocator.allocate(125 * MIB)  # TinyLlama's embedding: a segment of 126 MiB, whose last MiB is too little to split
    assert allocator.allocated_bytes == allocator.reserved_bytes == 126 * MIB


def test_a_large_block_gives_back_a_rest_above_one_mebibyte():
    allocator = CachingAllocator()
    allocator.allocate(19 * MIB - 512)  # its own segment of 20 MiB; 1 MiB + 512 B remain
    assert allocator.allocated_bytes == 19 * MIB - 512


def test_the_best_fit_is_the_smallest_free_block_that_is_large_enough():
    allocator = CachingAllocator()
    blocks = [allocator.allocate(size * MIB) for size in (30, 20, 24)]
    for block in blocks:
        allocator.free(block)
    assert allocator.allocate(22 * MIB).address == (30 + 20) * MIB


@pytest.mark.parametrize(("oldest_first", "taken"), [(True, 0), (False, TOP - 90 * MIB)])
def test_among_equal_blocks_the_oldest_segment_wins_and_before_torch_2_14_the_newest(oldest_first, taken):
    allocator = CachingAllocator(oldest_first=oldest_first)
    blocks = [allocator.allocate(30 * MIB) for _ in range(3)]
    for block in blocks[1:] + blocks[:1]:
        allocator.free(block)
    assert allocator.allocate(30 * MIB).address == taken


@pytest.mark.parametrize("oldest_first", [True, False])
def test_among_equal_blocks_of_one_segment_the_lowest_address_wins(oldest_first):
    allocator = CachingAllocator(oldest_first=oldest_first)
    low, _, high, _ = (allocator.allocate(4 * MIB) for _ in range(4))
    for block in (high, low):
        allocator.free(block)
    assert allocator.allocate(4 * MIB).address == low.address


def test_three_packed_weights_leave_a_hole_that_a_fourth_cannot_use():
    # 5.5 MiB is TinyLlama's packed up-projection. Three of them leave 3.5 MiB of a 20 MiB segment.
    allocator = CachingAllocator()
    addresses = [allocator.allocate(5 * MIB + 512 * KIB).address for _ in range(4)]
    assert addresses == [0, 5 * MIB + 512 * KIB, 11 * MIB, 20 * MIB]
    assert allocator.allocate(3 * MIB).address == 16 * MIB + 512 * KIB
    assert allocator.allocated_bytes == 4 * 5 * MIB + 4 * 512 * KIB + 3 * MIB + 512 * KIB  # the last half MiB is slack


def test_freed_neighbours_merge_back_into_the_segment():
    allocator = CachingAllocator()
    low, middle, high = (allocator.allocate(4 * MIB) for _ in range(3))
    for block in (low, high, middle):
        allocator.free(block)
    assert allocator.large.keys == [(20 * MIB, 0)]


def test_emptying_the_cache_returns_only_segments_that_hold_nothing():
    allocator = CachingAllocator()
    whole, split = allocator.allocate(30 * MIB), allocator.allocate(4 * MIB)
    allocator.free(whole)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 20 * MIB
    allocator.free(split)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 0


def test_when_capacity_is_reached_cached_segments_are_given_up_for_the_retry():
    allocator = CachingAllocator(capacity_bytes=40 * MIB)
    allocator.free(allocator.allocate(30 * MIB))
    assert allocator.allocate(32 * MIB).size_bytes == 32 * MIB
    assert (allocator.retries, allocator.reserved_bytes) == (1, 32 * MIB)


def test_out_of_memory_says_what_was_asked_and_what_was_short():
    allocator = CachingAllocator(capacity_bytes=40 * MIB)
    allocator.allocate(30 * MIB)
    with pytest.raises(OutOfDeviceMemoryError) as caught:
        allocator.allocate(11 * MIB)
    assert caught.value.requested_bytes == 11 * MIB
    assert caught.value.short_bytes == 2 * MIB  # 30 reserved + 12 for the segment - 40


def test_an_expandable_segment_grows_by_pages_of_20_mib_and_always_splits():
    allocator = ExpandableAllocator()
    allocator.allocate(125 * MIB)
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (125 * MIB, 140 * MIB)
    allocator.allocate(16 * MIB)  # 15 MiB are mapped already; one page more
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (141 * MIB, 160 * MIB)


def test_an_expandable_segment_reuses_the_end_that_a_growing_request_left():
    allocator = ExpandableAllocator()
    for size_mib in (100, 120, 140):
        allocator.free(allocator.allocate(size_mib * MIB))
    assert allocator.peak_reserved_bytes == 140 * MIB


def test_an_expandable_segment_unmaps_whole_pages_inside_free_blocks_and_maps_them_again():
    allocator = ExpandableAllocator()
    low, high = allocator.allocate(70 * MIB), allocator.allocate(10 * MIB)
    allocator.free(low)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 20 * MIB  # the page that `high` shares with the end of `low` stays
    assert allocator.allocate(65 * MIB).address == ADDRESS_RANGE_BYTES * 2
    assert allocator.reserved_bytes == 80 * MIB
    assert high.address == ADDRESS_RANGE_BYTES * 2 + 70 * MIB


sizes = st.one_of(st.integers(1, 4 * KIB), st.integers(1, 3 * MIB), st.integers(MIB, 40 * MIB))
steps = st.lists(st.one_of(sizes, st.integers(-30, -1), st.just(0)), max_size=120)
kinds = st.sampled_from([CachingAllocator, ExpandableAllocator])


def play(allocator, numbers):
    """Positive: allocate; negative: free one of the live blocks; zero: empty the cache. Yields the live blocks."""
    live = []
    for number in numbers:
        if number > 0:
            live.append(allocator.allocate(number))
        elif number == 0:
            allocator.empty_cache()
        elif live:
            allocator.free(live.pop(number % len(live)))
        yield live


@given(kinds, steps)
def test_live_blocks_never_overlap_and_reserved_covers_allocated(kind, numbers):
    allocator = kind()
    for live in play(allocator, numbers):
        spans = sorted((block.address, block.address + block.size_bytes) for block in live)
        assert all(left[1] <= right[0] for left, right in pairwise(spans))
        assert allocator.allocated_bytes == sum(block.size_bytes for block in live) <= allocator.reserved_bytes


@given(kinds, steps)
def test_freeing_everything_leaves_nothing_allocated_and_an_empty_cache_nothing_reserved(kind, numbers):
    allocator = kind()
    for block in list(play(allocator, [*numbers, 0]))[-1]:
        allocator.free(block)
    allocator.empty_cache()
    assert allocator.allocated_bytes == allocator.reserved_bytes == 0


@given(steps)
def test_the_slack_of_a_block_never_exceeds_a_mebibyte(numbers):
    allocator = CachingAllocator()
    asked_bytes = [number for number in numbers if number > 0]
    live = [allocator.allocate(number) for number in asked_bytes]
    assert all(0 <= block.size_bytes - size <= MIB + 511 for block, size in zip(live, asked_bytes, strict=True))


@given(kinds, steps)
def test_the_same_requests_get_the_same_addresses(kind, numbers):
    first, second = kind(), kind()
    for one, other in zip(play(first, numbers), play(second, numbers), strict=True):
        assert [block.address for block in one] == [block.address for block in other]


@given(steps, st.integers(1, 200))
def test_a_capacity_is_never_exceeded(numbers, capacity_mib):
    allocator = CachingAllocator(capacity_bytes=capacity_mib * MIB)
    with suppress(OutOfDeviceMemoryError):
        for _ in play(allocator, numbers):
            pass
    assert allocator.peak_reserved_bytes <= capacity_mib * MIB


def test_plenty_of_capacity_changes_nothing():
    roomy, unlimited = CachingAllocator(capacity_bytes=GIB), CachingAllocator()
    for size in (1, MIB, 5 * MIB, 30 * MIB):
        assert roomy.allocate(size).address == unlimited.allocate(size).address
