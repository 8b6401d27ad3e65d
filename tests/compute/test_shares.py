"""Who is next."""

from hypothesis import given
from hypothesis import strategies as st

from app.compute.shares import HALF_LIFE_SECONDS, MOST_CLIENTS, FairQueue, Shares


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_client_that_used_least_comes_first_and_each_keeps_its_order() -> None:
    shares = Shares(Clock())
    shares.charge("greedy", 5.0)
    queue: FairQueue[str] = FairQueue(shares)
    for client, job in (("greedy", "a"), ("greedy", "b"), ("modest", "c"), ("modest", "d")):
        queue.add(client, job)
    assert [queue.next() for _ in range(5)] == ["c", "d", "a", "b", None]


def test_what_was_used_fades() -> None:
    clock = Clock()
    shares = Shares(clock)
    shares.charge("somebody", 4.0)
    clock.now += HALF_LIFE_SECONDS
    assert shares.used_seconds("somebody") == 2.0
    assert shares.used_seconds("nobody") == 0.0


def test_a_bounded_number_of_clients_is_remembered() -> None:
    shares = Shares(Clock())
    for number in range(MOST_CLIENTS + 1):
        shares.charge(str(number), 1.0)
    assert shares.used_seconds("0") == 0.0
    assert shares.used_seconds(str(MOST_CLIENTS)) == 1.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9))))
def test_every_job_that_was_added_comes_out_once(jobs: list[tuple[str, int]]) -> None:
    queue: FairQueue[int] = FairQueue(Shares(Clock()))
    for client, job in jobs:
        queue.add(client, job)
    assert len(queue) == len(jobs)
    taken = [queue.next() for _ in jobs]
    assert sorted(job for job in taken if job is not None) == sorted(job for _, job in jobs)
    assert len(queue) == 0
    assert list(queue.clients()) == []
