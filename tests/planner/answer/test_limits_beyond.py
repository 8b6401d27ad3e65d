"""The largest that fits, also where a larger value fits beyond a smaller one that does not."""

from hypothesis import given
from hypothesis import strategies as st

from planner.answer.reach.limits import furthest


@given(st.integers(1, 5_000), st.integers(2, 8))
def test_a_value_right_behind_the_shore_is_found(shore: int, beyond: int) -> None:
    assert furthest(lambda value: value <= shore or value == shore + beyond, 1 << 20) == shore + beyond


@given(st.integers(0, 10_000), st.integers(1, 12_000))
def test_where_it_is_monotone_it_is_the_last_that_holds(last: int, most: int) -> None:
    assert furthest(lambda value: value <= last, most) == min(last, most)


@given(st.integers(64, 4_000))
def test_every_length_that_pads_to_the_next_multiple_of_64_is_found(full: int) -> None:
    """A kernel that pays for odd lengths: the multiple fits, those before it do not."""
    edge = (full // 64) * 64
    assert furthest(lambda value: value <= edge - 60 or value == edge, 1 << 20) == edge
