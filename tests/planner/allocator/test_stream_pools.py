"""Blocks serve the stream they were allocated on, and come back late where another used them."""

from planner.allocator.python_pools import PythonPools
from planner.allocator.stream_pools import StreamPools
from planner.units import MIB

SIZE_BYTES = 100 * MIB


def streams() -> StreamPools[str]:
    return StreamPools("computation", PythonPools(), PythonPools)


def test_what_one_stream_let_go_of_serves_no_other() -> None:
    pools = streams()
    pools.free(pools.allocate("computation", SIZE_BYTES))
    pools.allocate("unshard", SIZE_BYTES)
    assert pools.reserved_bytes == 2 * SIZE_BYTES


def test_what_a_stream_let_go_of_serves_itself() -> None:
    pools = streams()
    pools.free(pools.allocate("unshard", SIZE_BYTES))
    pools.allocate("unshard", SIZE_BYTES)
    assert pools.reserved_bytes == SIZE_BYTES


def test_a_block_that_another_stream_used_is_missed_until_the_host_has_waited_for_that_stream() -> None:
    pools = streams()
    pools.free_late(pools.allocate("unshard", SIZE_BYTES), "computation")
    pools.reach(["unshard"], pools.mark())
    pools.allocate("unshard", SIZE_BYTES)
    assert pools.reserved_bytes == 2 * SIZE_BYTES
    pools.reach(["computation"], pools.mark())
    pools.allocate("unshard", SIZE_BYTES)
    assert pools.reserved_bytes == 2 * SIZE_BYTES


def test_an_event_says_nothing_of_what_was_let_go_of_after_it() -> None:
    pools = streams()
    earlier, later = (pools.allocate("unshard", SIZE_BYTES) for _ in range(2))
    pools.free_late(earlier, "computation")
    event = pools.mark()
    pools.free_late(later, "computation")
    pools.reach(["computation"], event)
    for _ in range(2):
        pools.allocate("unshard", SIZE_BYTES)
    assert pools.reserved_bytes == 3 * SIZE_BYTES


def test_a_model_that_is_there_by_now_counts() -> None:
    begun = PythonPools()
    begun.allocate(SIZE_BYTES)
    assert StreamPools("computation", begun, PythonPools).reserved_bytes == SIZE_BYTES
