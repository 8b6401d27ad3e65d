"""The largest value that holds is the same however its room bends, and takes few questions where that is a line."""

from hypothesis import given
from hypothesis import strategies as st

from planner.answer.search import largest


@given(st.integers(0, 300), st.integers(1, 300))
def test_the_largest_is_found(bound: int, most: int) -> None:
    assert largest(lambda value: value <= bound, most) == min(bound, most)


@given(
    st.integers(0, 10_000), st.integers(1, 20_000), st.integers(1, 1 << 40), st.sampled_from([0.3, 1.0, 2.0, 5.0])
)
def test_whatever_the_room_is_the_answer_is_the_same(bound: int, most: int, scale: int, bend: float) -> None:
    def room(value: int) -> int:
        left = bound + 0.5 - value
        return int(scale * abs(left) ** bend) * (1 if left > 0 else -1) or (1 if left > 0 else -1)

    assert largest(lambda value: value <= bound, most, room) == min(bound, most)


@given(st.integers(0, 500), st.data())
def test_it_goes_on_from_what_is_known(bound: int, data: st.DataObject) -> None:
    known = data.draw(st.integers(0, bound))
    assert largest(lambda value: value <= bound, 1000, lambda value: bound - value, known) == bound


@given(st.integers(1, 16_000_000), st.integers(0, 100), st.integers(1, 1000))
def test_a_line_is_crossed_with_eight_questions(bound: int, spare: int, step: int) -> None:
    asked: list[int] = []

    def holds(value: int) -> bool:
        asked.append(value)
        return value <= bound

    assert largest(holds, 1 << 24, lambda value: step * (bound - value) + spare % step) == bound
    assert len(asked) <= 8
