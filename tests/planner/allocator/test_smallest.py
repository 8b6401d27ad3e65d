"""The smallest capacity in which a run survives, beside what torch's own allocator needed on a virtual card."""

import pytest

from planner.probe.recording.smallest import smallest_pages
from tests.planner.allocator.smallest import compared


def test_the_smallest_capacity_is_torchs_to_a_page_in_26_of_29_runs() -> None:
    rows = list(compared())
    far = {row.name: row.apart for row in rows if abs(row.apart) > 1}
    assert len(rows) == 29
    assert len(far) <= 3
    assert all(abs(apart) <= 4 for apart in far.values())


@pytest.mark.parametrize("least", [1, 37, 100, 101, 640])
def test_the_search_finds_the_least_that_is_enough_wherever_it_begins(least: int) -> None:
    assert smallest_pages(lambda pages: pages >= least, 100) == least
