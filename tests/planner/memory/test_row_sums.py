"""Partial sums over rows: what torch 2.14's own history of a virtual H100 has for a norm's gradient."""

import pytest

from planner.memory.row_sums import partial_sums

H100 = (132, (9, 0))


def test_a_sum_over_a_thousand_rows_leaves_the_partial_sums_that_torch_allocates() -> None:
    """The backward pass of smollm2-360m-full: 1,024 tokens of 960 columns."""
    found = partial_sums(1024, 960, *H100)
    assert (4 * found.elements, 4 * found.semaphores) == (7_864_320, 32)


@pytest.mark.parametrize(("rows", "columns"), [(1, 960), (256, 960), (1020, 4096)])
def test_few_rows_are_summed_up_within_a_block(rows: int, columns: int) -> None:
    assert partial_sums(rows, columns, *H100) == (0, 0)
