"""Doors locked: who may probe from where, and what stays open to everyone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.db.database import Database
from app.jobs.service import open_database
from app.main import create_app
from app.security.addresses import host_name, is_loopback
from app.security.rates import CLIENTS_BEHIND_A_PROXY, MOST_CLIENTS, Buckets
from app.security.tokens import bearer_of, create_token, list_tokens, revoke_token
from app.settings import Settings
from tests.service.desk import printed
from tests.service.fakes.fake_engine import FakeEngine
from tests.service.forking import forked_template
from tests.service.harness import document, wait_until

PROBES = "/api/v1/probes"
LOCKED = [
    ("POST", PROBES),
    ("GET", PROBES),
    ("GET", f"{PROBES}/x"),
    ("GET", f"{PROBES}/x/events"),
    ("DELETE", f"{PROBES}/x"),
    ("GET", "/api/v1/evidence"),
    ("POST", "/api/v1/evidence"),
]


class Door:
    """The app as a browser or a program at some address sees it."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", **settings: Any) -> None:
        self.settings = Settings(data_dir=folder, host=host, hub_offline=True, **settings)
        self.engine = FakeEngine(answer=printed(1))
        self.app = create_app(self.settings, [self.engine], forked_template)

    def client(self, url: str = "http://127.0.0.1:8000", peer: str = "127.0.0.1", **rest: Any) -> TestClient:
        return TestClient(self.app, base_url=url, client=(peer, 50000), **rest)

    @property
    def database(self) -> Database:
        database: Database = self.app.state.service.database
        return database


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Door]:
    yield from opened(Door(tmp_path, local_access=True))


@pytest.fixture
def careful(tmp_path: Path) -> Iterator[Door]:
    """As a server is without settings."""
    yield from opened(Door(tmp_path))


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Door]:
    yield from opened(Door(tmp_path, host="0.0.0.0"))


def opened(door: Door) -> Iterator[Door]:
    with door.client() as client:
        wait_until(lambda: bool(client.get("/api/v1/workers").json()["items"]), 10)
        yield door


@pytest.mark.parametrize(("method", "path"), LOCKED)
def test_coming_from_this_machine_is_no_proof_of_being_its_owner(careful: Door, method: str, path: str) -> None:
    for url in ("http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"):
        answer = careful.client(url).request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (401, "token_needed")


def test_this_starts_own_key_opens(careful: Door) -> None:
    bearer = {"Authorization": f"Bearer {careful.app.state.local_key}"}
    assert careful.client().post(PROBES, json=document(), headers=bearer).status_code == 202
    assert Door(careful.settings.data_dir).app.state.local_key != careful.app.state.local_key


def test_the_printed_link_signs_a_browser_in_for_longer_than_the_server_runs(careful: Door) -> None:
    browser = careful.client(follow_redirects=False)
    assert browser.get("/local?key=guessed").status_code == 401
    assert browser.get("/probes").status_code == 401
    answer = browser.get(f"/local?key={careful.app.state.local_key}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.cookies["fitproof_token"]
    assert cookie != careful.app.state.local_key
    careful.app.state.local_key = "that of the next start"
    assert browser.get("/probes").status_code == 200
    revoke_token(careful.database, cookie.split("_")[1])
    assert browser.get("/probes").status_code == 401


def test_where_the_operator_says_so_this_machine_needs_no_token(local: Door) -> None:
    for url in ("http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"):
        assert local.client(url).post(PROBES, json=document()).status_code == 202


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://192.168.1.5:8000", "http://gpu.example:8000"])
@pytest.mark.parametrize(("method", "path"), LOCKED)
def test_a_server_bound_to_the_world_wants_a_token_for_all_that_probes(
    public: Door, method: str, path: str, url: str
) -> None:
    answer = public.client(url, peer="192.168.1.9").request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_needed")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "fitproof token" in answer.text


def test_planning_stays_open_to_the_world(public: Door) -> None:
    client = public.client("http://gpu.example:8000", peer="192.168.1.9")
    assert client.post("/api/v1/plans", json={"model": "Qwen/Qwen2.5-0.5B", "gpu": "4090"}).status_code == 200
    for path in ("/api/v1/models", "/api/v1/gpus", "/api/v1/workers", "/healthz", "/readyz", "/metrics"):
        assert client.get(path).status_code == 200


def test_a_token_opens_until_it_is_revoked_and_keeps_keys_apart(public: Door) -> None:
    first, second = (create_token(public.database, name) for name in ("ci", "laptop"))
    client = public.client("http://gpu.example:8000", peer="192.168.1.9")
    made = []
    for token in (first, second):
        headers = {"Authorization": f"Bearer {token.secret}", "Idempotency-Key": "same"}
        made.append(client.post(PROBES, json=document(), headers=headers).json()["id"])
    assert made[0] != made[1]
    revoke_token(public.database, first.id)
    refused = client.get(PROBES, headers={"Authorization": f"Bearer {first.secret}"})
    assert refused.status_code == 401
    assert first.secret not in refused.text
    assert client.get(PROBES, headers={"Authorization": f"bearer {second.secret}"}).status_code == 200


@pytest.mark.parametrize("secret", ["x", "fitproof__", "fitproof_00000000_x", "fitproof_\u00e9_x", "_" * 9000])
def test_a_wrong_token_is_refused_even_on_this_machine(local: Door, secret: str) -> None:
    headers = {"Authorization": b"Bearer " + secret.encode("latin-1")}
    assert local.client().get(PROBES, headers=headers).status_code == 401  # type: ignore[arg-type]


def test_only_the_hash_of_a_token_is_kept(local: Door, tmp_path: Path) -> None:
    token = create_token(local.database, "ci")
    assert bearer_of(local.database, token.secret) == token.id
    assert bearer_of(local.database, token.secret[:-1]) is None
    assert [each.name for each in list_tokens(local.database)] == ["ci"]
    files = b"".join(path.read_bytes() for path in tmp_path.glob("fitproof.sqlite3*"))
    assert token.secret.split("_", 2)[2].encode() not in files


def test_a_name_that_was_rebound_to_this_machine_gets_nothing(local: Door) -> None:
    assert local.client("http://evil.example:8000").get(PROBES).status_code == 401
    headers = {"host": "evil.example"}
    assert local.client().get(PROBES, headers=headers).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-for": "203.0.113.7"},
        {"forwarded": "for=127.0.0.1"},
        {"via": "1.1 a"},
        {"x-real-ip": "127.0.0.1"},
        {"cf-connecting-ip": "203.0.113.7"},
        {"CF-Ray": "8f"},
        {"x-envoy-external-address": "203.0.113.7"},
        {"x-envoy-expected-rq-timeout-ms": "15000"},
    ],
)
def test_what_a_proxy_on_this_machine_passes_on_is_not_from_this_machine(local: Door, headers: dict[str, str]) -> None:
    refused = local.client().post(PROBES, json=document(), headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (401, "token_needed")
    bearer = {"Authorization": f"Bearer {create_token(local.database, 'proxied').secret}"}
    assert local.client().post(PROBES, json=document(), headers=headers | bearer).status_code == 202


def test_a_stranger_who_reaches_a_loopback_address_needs_a_token(local: Door) -> None:
    assert local.client(peer="192.168.1.9").get(PROBES).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:8000"},
    ],
)
def test_another_sites_page_cannot_act_here(local: Door, headers: dict[str, str]) -> None:
    answer = local.client().post(PROBES, json=document(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert local.client().get(PROBES).json()["items"] == []


def test_our_own_page_and_programs_may_act(local: Door) -> None:
    own = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    assert local.client().post(PROBES, json=document(), headers=own).status_code == 202
    assert local.client().post(PROBES, json=document()).status_code == 202


def test_a_signed_in_browser_must_say_where_it_comes_from(public: Door) -> None:
    token = create_token(public.database, "browser")
    client = public.client("http://gpu.example:8000", peer="192.168.1.9", cookies={"fitproof_token": token.secret})
    assert client.get(PROBES).status_code == 200
    assert client.post(PROBES, json=document()).json()["code"] == "foreign_origin"
    own = {"origin": "http://gpu.example:8000"}
    assert client.post(PROBES, json=document(), headers=own).status_code == 202


def test_a_client_that_asks_too_much_is_told_when_to_come_back(tmp_path: Path) -> None:
    door = Door(tmp_path, requests_per_minute=5, local_access=True)
    for _ in opened(door):
        far = door.client("http://gpu.example:8000", peer="203.0.113.7")
        codes = [far.get("/api/v1/gpus").status_code for _ in range(7)]
        assert codes == [200] * 5 + [429] * 2
        refused = far.get("/api/v1/gpus")
        assert (refused.json()["code"], int(refused.headers["retry-after"]) >= 1) == ("too_many_requests", True)
        assert far.get("/healthz").status_code == 200
        assert door.client("http://gpu.example:8000", peer="203.0.113.8").get("/api/v1/gpus").status_code == 200
        assert [door.client().get("/api/v1/gpus").status_code for _ in range(9)] == [200] * 9


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-for": "198.51.100.1, 203.0.113.7"},
        {"forwarded": 'for=198.51.100.1, for="[2001:db8::7]:4711";proto=https'},
        {"cf-connecting-ip": "203.0.113.7"},
        {"x-envoy-external-address": "203.0.113.7"},
        {"x-real-ip": "203.0.113.7"},
    ],
)
def test_a_client_that_a_proxy_here_asks_for_has_a_limit_of_its_own(tmp_path: Path, headers: dict[str, str]) -> None:
    door = Door(tmp_path, requests_per_minute=5)
    for _ in opened(door):
        near = door.client("http://gpu.example")
        assert [near.get("/api/v1/gpus", headers=headers).status_code for _ in range(7)] == [200] * 5 + [429] * 2
        assert near.get("/api/v1/gpus", headers={"x-forwarded-for": "203.0.113.9"}).status_code == 200


def test_all_that_comes_through_a_silent_proxy_has_a_limit_together(tmp_path: Path) -> None:
    door = Door(tmp_path, requests_per_minute=1)
    for _ in opened(door):
        codes = [door.client().get("/api/v1/gpus").status_code for _ in range(CLIENTS_BEHIND_A_PROXY + 5)]
        assert codes[-1] == 429


def test_one_network_of_ipv6_addresses_is_one_client(tmp_path: Path) -> None:
    door = Door(tmp_path, requests_per_minute=3)
    for _ in opened(door):
        peers = [f"2001:db8:0:1::{number}" for number in range(1, 6)]
        codes = [door.client("http://x:1", peer=peer).get("/api/v1/gpus").status_code for peer in peers]
        assert codes == [200] * 3 + [429] * 2


def test_buckets_refill_with_time_and_forget_old_clients() -> None:
    now = [0.0]
    buckets = Buckets(60, clock=lambda: now[0])
    assert [buckets.wait_seconds("a") for _ in range(60)] == [0.0] * 60
    assert buckets.wait_seconds("a") == pytest.approx(1.0)
    now[0] = 1.0
    assert buckets.wait_seconds("a") == 0.0
    for number in range(MOST_CLIENTS + 5):
        buckets.wait_seconds(str(number))
    assert len(buckets._levels) == MOST_CLIENTS


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "LocalHost", "::ffff:127.0.0.1"])
def test_loopback_is_recognised(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", [None, "", "0.0.0.0", "::", "192.168.0.1", "localhost.evil.example", "127.0.0.1.x"])
def test_everything_else_is_not_loopback(host: str | None) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("header", "name"), [("a:1", "a"), ("a", "a"), ("[::1]:8000", "::1"), ("[::1]", "::1"), ("", None), (None, None)]
)
def test_host_headers_are_taken_apart(header: str | None, name: str | None) -> None:
    assert host_name(header) == name


def test_the_data_folder_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    open_database(Settings(data_dir=folder)).close()
    assert folder.stat().st_mode & 0o077 == 0
