"""A short part of the attack, of what holds on a busy machine, too: `make attack` runs it in full."""

from pathlib import Path

import pytest

from tests.attack.siege import besiege


@pytest.mark.timeout(180)
def test_hostile_clients_break_nothing_hang_nothing_and_fill_nothing(tmp_path: Path) -> None:
    report = besiege(tmp_path, most_requests=1_500, most_seconds=60)
    assert report.wrong == []
    assert report.count >= 200
    assert report.ordinary.statuses.keys() <= {200, 503}
    assert report.ordinary.statuses[200] > 0
