"""Whose probes they are: each token ends its own, and has so many at a time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.security.tokens import create_token
from tests.service.harness import document
from tests.service.test_access import PROBES, Door, opened


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path, queue_limit_each=2)
    door.engine.answer = None
    yield from opened(door)


def bearer(door: Door, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {create_token(door.database, name).secret}"}


def operator(door: Door) -> dict[str, str]:
    return {"Authorization": f"Bearer {door.app.state.local_key}"}


def test_a_token_ends_its_own_probes_and_the_operator_all(door: Door) -> None:
    client, mine, theirs = door.client(), bearer(door, "mine"), bearer(door, "theirs")
    first, second = (client.post(PROBES, json=document(), headers=mine).json()["id"] for _ in range(2))
    refused = client.delete(f"{PROBES}/{first}", headers=theirs)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_yours")
    page = client.post(f"/probes/{first}/cancel", headers=theirs)
    assert page.status_code == 403
    assert not client.get(f"{PROBES}/{first}", headers=mine).json()["cancel_requested"]
    assert client.delete(f"{PROBES}/{first}", headers=mine).json()["cancel_requested"]
    assert client.delete(f"{PROBES}/{second}", headers=operator(door)).json()["cancel_requested"]


def test_a_token_has_so_many_probes_at_a_time_and_leaves_room_to_others(door: Door) -> None:
    client, mine = door.client(), bearer(door, "mine")
    for _ in range(2):
        assert client.post(PROBES, json=document(), headers=mine).status_code == 202
    refused = client.post(PROBES, json=document(), headers=mine)
    assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
    assert "FITPROOF_QUEUE_LIMIT_EACH" in refused.json()["title"]
    assert client.post(PROBES, json=document(), headers=bearer(door, "theirs")).status_code == 202
    for _ in range(3):
        assert client.post(PROBES, json=document(), headers=operator(door)).status_code == 202
