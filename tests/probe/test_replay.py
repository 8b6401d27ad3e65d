from planner.expandable import ExpandableAllocator
from planner.probe.allocator import CachingAllocator
from planner.probe.meters.events import Event
from planner.probe.replay import replay, smallest_capacity_bytes
from planner.units import MIB


def alloc(block, mebibytes):
    return Event("alloc", block, mebibytes * MIB, "test")


def free(block):
    return Event("free", block)


def phase(name):
    return Event("phase", label=name)


WEIGHTS_THEN_STEP = [
    phase("load"), alloc(1, 30), alloc(2, 60), free(1),
    phase("forward"), alloc(3, 20), alloc(4, 40), free(3), free(4),
]  # fmt: skip


def test_each_phase_reads_its_own_peaks_as_after_a_reset():
    load, forward = replay(WEIGHTS_THEN_STEP, CachingAllocator()).phases
    assert (load.name, load.peak_allocated_bytes, load.resident_bytes) == ("load", 90 * MIB, 60 * MIB)
    assert (forward.name, forward.peak_allocated_bytes, forward.resident_bytes) == ("forward", 120 * MIB, 60 * MIB)


def test_reserved_counts_the_hole_that_no_request_fitted():
    played = replay(WEIGHTS_THEN_STEP, CachingAllocator())
    assert played.peak_reserved_bytes == 130 * MIB  # 30 + 60 + 40; the 20 live inside the freed 30


def test_a_phase_that_returns_keeps_its_worst_peak_and_last_residents():
    again = [*WEIGHTS_THEN_STEP, phase("load"), alloc(5, 4)]
    load = replay(again, CachingAllocator()).phases[0]
    assert (load.peak_allocated_bytes, load.resident_bytes) == (90 * MIB, 64 * MIB)


def test_out_of_memory_is_an_answer_that_names_phase_and_request():
    played = replay(WEIGHTS_THEN_STEP, CachingAllocator(100 * MIB))
    assert played.out_of_memory is not None
    assert played.out_of_memory.failed_phase == "forward"
    assert played.out_of_memory.requested_bytes == 40 * MIB
    assert [read.name for read in played.phases] == ["load", "forward"]


def test_an_emptied_cache_is_reserved_no_longer():
    events = [phase("load"), alloc(1, 30), free(1), Event("empty_cache"), phase("forward"), alloc(2, 40)]
    assert [read.peak_reserved_bytes for read in replay(events, CachingAllocator()).phases] == [30 * MIB, 40 * MIB]


def test_the_smallest_capacity_survives_and_one_mebibyte_less_does_not():
    smallest = smallest_capacity_bytes(WEIGHTS_THEN_STEP)
    assert replay(WEIGHTS_THEN_STEP, CachingAllocator(smallest)).out_of_memory is None
    assert replay(WEIGHTS_THEN_STEP, CachingAllocator(smallest - MIB)).out_of_memory is not None


def test_the_smallest_capacity_is_the_peak_itself_when_nothing_is_wasted():
    assert smallest_capacity_bytes([phase("load"), alloc(1, 30), alloc(2, 50)]) == 80 * MIB


def test_expandable_segments_reserve_less_when_lengths_vary():
    events = [phase("load")]
    for step, mebibytes in enumerate((60, 90, 70, 110, 100), start=1):
        events += [alloc(step, mebibytes), free(step)]
    assert replay(events, ExpandableAllocator()).peak_reserved_bytes == 120 * MIB
    assert replay(events, CachingAllocator()).peak_reserved_bytes == (60 + 90 + 110) * MIB
