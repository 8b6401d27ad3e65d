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


def test_a_person_asks_little_beside_those_who_ask_much_at_once() -> None:
    shares = Shares(Clock())
    for client, at_once in (("person", 1), ("crowd", 4)):
        for _ in range(at_once):
            shares.asks(client)
        shares.charge(client, 3.0)
    assert (shares.is_heavy("person"), shares.is_heavy("crowd")) == (False, True)
    shares.charge("person", 7.0)
    assert shares.is_heavy("person"), "one at a time, without end"


def test_what_was_asked_at_once_is_forgotten_with_what_was_used() -> None:
    clock = Clock()
    shares = Shares(clock)
    for _ in range(3):
        shares.asks("crowd")
    for _ in range(3):
        shares.answered("crowd")
    shares.charge("crowd", 2.0)
    shares.charge("other", 2.0)
    assert shares.is_heavy("crowd")
    clock.now += HALF_LIFE_SECONDS
    assert not shares.is_heavy("crowd")


def test_who_asks_one_thing_at_a_time_asks_little_for_a_visit_s_pages_whatever_others_were_charged_so_far() -> None:
    shares = Shares(Clock())
    for _ in range(3):
        shares.asks("crowd")
    shares.asks("person")
    shares.charge("crowd", 0.1)
    shares.charge("person", 1.0)
    assert shares.is_light("person")
    assert not shares.is_heavy("person")
    assert shares.is_heavy("crowd"), "many at once beside somebody who was served"
    shares.charge("person", 2.0)
    assert shares.is_heavy("person")


def test_alone_nobody_asks_much() -> None:
    shares = Shares(Clock())
    for _ in range(9):
        shares.asks("only")
    shares.charge("only", 9.0)
    assert not shares.is_heavy("only")
    assert not shares.is_light("only")


def test_those_who_may_come_before_those_who_used_less() -> None:
    shares = Shares(Clock())
    queue: FairQueue[str] = FairQueue(shares)
    queue.add("modest", "a")
    queue.add("greedy", "b")
    shares.charge("greedy", 5.0)
    assert queue.next(lambda client: client == "greedy") == "b"
    assert queue.next(lambda client: client == "greedy") is None


def test_whoever_asks_little_gives_way_to_others_alone_who_do_so() -> None:
    shares = Shares(Clock())
    queue: FairQueue[str] = FairQueue(shares)
    for client, at_once in (("person", 1), ("crowd", 4)):
        for _ in range(at_once):
            shares.asks(client)
        shares.charge(client, 1.0)
    queue.add("crowd", "map")
    assert not queue.wants_the_place_of("person")
    assert queue.wants_the_place_of("crowd")
    queue.add("neighbour", "plan")
    assert queue.wants_the_place_of("person")
