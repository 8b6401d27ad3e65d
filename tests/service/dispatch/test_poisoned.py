"""A probe whose data nobody can store, on real PostgreSQL: it ends by itself, and the others pass by."""

from pathlib import Path

import pytest

from app.engines.base import LogPage
from app.jobs.intake import Room, Sender, take_in
from app.jobs.order import Order, Settled
from planner.errors import InvalidRequestError
from tests.service.desk import Desk, printed
from tests.service.fakes.fake_engine import FakeEngine
from tests.service.harness import document


class Poisonous(FakeEngine):
    """The first probe's log ends where no integer of a database reaches."""

    async def logs(self, ref: str, offset: int) -> LogPage:
        page = await super().logs(ref, offset)
        return LogPage(page.lines, 1 << 70, page.more) if ref == self.submits[0] else page


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "sqlite" else request.getfixturevalue("postgres_database")


def test_a_nul_in_what_a_probe_says_is_stored_and_holds_up_nothing(url: str | None, tmp_path: Path) -> None:
    answer = b"noise \x00 of a library\n" + printed(2, device={"name": "NVIDIA\x00 \ud83d card"})
    desk = Desk(tmp_path, FakeEngine(answer=answer), url=url)
    first, second = desk.queue(), desk.queue()
    desk.run_to_end(first, second)
    assert [desk.get(probe).state for probe in (first, second)] == ["succeeded", "succeeded"]
    measurement = desk.get(first).measurement
    assert measurement is not None
    assert measurement["device"]["name"].startswith("NVIDIA")


def test_a_probe_that_fails_with_a_nul_on_its_lips_is_a_failed_probe(url: str | None, tmp_path: Path) -> None:
    desk = Desk(tmp_path, FakeEngine(answer=b"Segmentation\x00 fault\n"), url=url)
    probe = desk.queue()
    desk.run_to_end(probe)
    assert "\x00" not in str(desk.get(probe).error)


def test_a_poisoned_probe_ends_and_the_others_pass_by(url: str | None, tmp_path: Path) -> None:
    desk = Desk(tmp_path, Poisonous(answer=printed(1)), url=url)
    probes = [desk.queue() for _ in range(4)]
    desk.run_to_end(*probes)
    ended = sorted(desk.get(probe).state for probe in probes)
    assert ended == ["failed", "succeeded", "succeeded", "succeeded"]
    (failed,) = [desk.get(probe) for probe in probes if desk.get(probe).state == "failed"]
    assert "cannot be recorded" in str(failed.error)


def test_an_order_that_no_database_holds_is_refused(url: str | None, tmp_path: Path) -> None:
    desk = Desk(tmp_path, url=url)
    settled = Settled(
        order=Order.parse(document()), instrument="dry-run", card="rtx-4090", card_bytes=1, params=1 << 80,
        deadline_seconds=60, prediction=None,
    )  # fmt: skip
    with pytest.raises(InvalidRequestError, match="cannot be recorded"):
        take_in(desk.database, settled, Sender("local"), Room(100))
    assert desk.get(desk.queue()).state == "queued"


@pytest.mark.parametrize("name", ["a\x00b", "a\x1b[31m", "a\u0085b", "a\nb"])
@pytest.mark.parametrize("field", ["model", "gpu"])
def test_a_name_with_control_characters_is_refused_at_its_field(field: str, name: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Order.parse(document(**{field: name}))
    assert [problem.field for problem in caught.value.problems] == [field]
    assert "control character" in caught.value.problems[0].message
