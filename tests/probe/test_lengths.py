"""Steps of different lengths in one run, and what that costs the two allocators."""

import pytest

from planner.expandable import ExpandableAllocator
from planner.probe.allocator import CachingAllocator
from planner.probe.lengths import played_in_turn
from planner.probe.meters.events import Event
from planner.probe.replay import replay, smallest_capacity_bytes
from planner.units import MIB


def phase(name):
    return Event("phase", label=name)


def alloc(block, mebibytes):
    return Event("alloc", block, mebibytes * MIB, "test")


def free(block):
    return Event("free", block)


def recording(mebibytes):
    """Weights of 200 MiB, optimizer states of 20 after the first step, and two tensors of a step's size at a time.

    Each step's batch (block 10 times the step) is freed by the step that follows, as a loop variable is.
    """
    return [
        phase("load"), alloc(1, 200),
        phase("first_forward"), alloc(10, 2), alloc(11, mebibytes),
        phase("first_backward"), alloc(12, mebibytes), free(11), free(12),
        phase("first_optimizer"), alloc(2, 20),
        phase("forward"), alloc(20, 2), free(10), alloc(21, mebibytes),
        phase("backward"), alloc(22, mebibytes), free(21), free(22),
        phase("optimizer"),
        phase("save"), free(20),
    ]  # fmt: skip


LENGTHS = (100, 60, 90, 75)
RECORDINGS = [recording(mebibytes) for mebibytes in LENGTHS]


def test_the_peak_is_that_of_the_longest_step():
    varied = replay(played_in_turn(RECORDINGS, [1, 2, 3, 0, 2]), CachingAllocator())
    alone = replay(RECORDINGS[0], CachingAllocator())
    assert varied.peak_allocated_bytes == pytest.approx(alone.peak_allocated_bytes, abs=2 * MIB)


def test_a_step_leaves_nothing_behind_but_weights_and_states():
    played = replay(played_in_turn(RECORDINGS, [1, 2, 3]), CachingAllocator())
    assert played.phases[-1].resident_bytes == 220 * MIB


def test_varying_lengths_make_the_default_allocator_hold_more_than_the_longest_step_alone():
    varied = replay(played_in_turn(RECORDINGS, [1, 2, 3, 0, 2, 1]), CachingAllocator())
    alone = replay(RECORDINGS[0], CachingAllocator())
    assert varied.peak_reserved_bytes >= alone.peak_reserved_bytes


def test_expandable_segments_hold_no_more_for_varying_lengths():
    grown = [recording(mebibytes) for mebibytes in (60, 75, 90, 100)]
    varied = played_in_turn(grown, [1, 2, 3])
    default, expandable = replay(varied, CachingAllocator()), replay(varied, ExpandableAllocator())
    assert expandable.peak_reserved_bytes < default.peak_reserved_bytes


def test_the_smallest_capacity_of_a_varied_run_survives_it():
    varied = played_in_turn(RECORDINGS, [1, 2, 3, 0])
    assert replay(varied, CachingAllocator(smallest_capacity_bytes(varied))).out_of_memory is None


def test_a_recording_without_a_steady_step_is_refused():
    with pytest.raises(ValueError, match="forward"):
        played_in_turn([recording(10)[:2]], [0])
