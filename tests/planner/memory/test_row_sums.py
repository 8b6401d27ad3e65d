"""Partial sums over rows: what torch 2.14's own history of virtual cards has for gradients of norms and biases."""

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


@pytest.mark.parametrize(("columns", "size_bytes"), [(4096, 50_331_648), (1024, 12_582_912)])
def test_a_biass_gradient_is_summed_up_in_as_much_as_torch_allocates_for_opts(columns: int, size_bytes: int) -> None:
    """The backward pass of OPT's two biases of an MLP, 1,536 tokens, on a virtual RTX 4090."""
    assert 4 * partial_sums(1536, columns, 128, (8, 9)).elements == size_bytes
