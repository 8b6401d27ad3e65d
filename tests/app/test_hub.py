import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.hub import cache
from app.hub.cache import ConfigCache
from app.hub.client import Hub, safe_redirect
from app.hub.errors import (
    ConfigTooLargeError,
    GatedModelError,
    HubError,
    HubTimeoutError,
    HubTroubleError,
    HubUnreachableError,
    MalformedConfigError,
    ModelNotOnHubError,
)
from app.hub.names import RepoName, without_address
from app.settings import Settings
from tests.app.hub_server import CONFIG, FakeHub, running_hub

REPO = "acme/tiny-llama"


@pytest.fixture
def hub_server() -> Iterator[FakeHub]:
    with running_hub() as hub:
        yield hub


def fetch(endpoint: str, folder: Path, name: str = REPO, **settings: Any) -> dict[str, Any]:
    """One fetch by a fresh client, as a fresh process would make it."""
    given = {"hub_endpoint": endpoint, "data_dir": folder, "hub_timeout_seconds": 5.0, "hub_token": None}
    given |= {"hub_offline": False, **settings}

    async def once() -> dict[str, Any]:
        repo = RepoName.parse(name)
        assert repo is not None
        hub = Hub(Settings(**given))
        try:
            return await hub.config(repo)
        finally:
            await hub.aclose()

    return asyncio.run(once())


def test_a_config_is_fetched_from_the_hub(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.publish(REPO)
    assert fetch(hub_server.endpoint, tmp_path) == CONFIG
    assert [asked.path for asked in hub_server.asked] == [f"/{REPO}/resolve/main/config.json"]


def test_a_revision_is_asked_for_by_name(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.publish(REPO, {"model_type": "old"}, revision="refs%2Fpr%2F1")
    assert fetch(hub_server.endpoint, tmp_path, f"{REPO}@refs/pr/1") == {"model_type": "old"}


def test_a_fresh_copy_on_disk_answers_without_the_hub(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.publish(REPO)
    fetch(hub_server.endpoint, tmp_path)
    assert fetch(hub_server.endpoint, tmp_path) == CONFIG
    assert len(hub_server.asked) == 1


def test_an_old_copy_is_checked_and_kept_when_unchanged(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.publish(REPO, etag='"v1"')
    fetch(hub_server.endpoint, tmp_path)
    assert fetch(hub_server.endpoint, tmp_path, hub_cache_seconds=0) == CONFIG
    assert hub_server.asked[1].headers["if-none-match"] == '"v1"'


def test_an_old_copy_is_replaced_when_the_hub_has_a_newer_one(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.publish(REPO, {"model_type": "one"}, etag='"v1"')
    fetch(hub_server.endpoint, tmp_path)
    hub_server.publish(REPO, {"model_type": "two"}, etag='"v2"')
    assert fetch(hub_server.endpoint, tmp_path, hub_cache_seconds=0) == {"model_type": "two"}


def test_an_old_copy_still_answers_when_the_hub_is_gone(hub_server: FakeHub, tmp_path: Path) -> None:
    path = hub_server.publish(REPO)
    fetch(hub_server.endpoint, tmp_path)
    hub_server.say(path, 503)
    assert fetch(hub_server.endpoint, tmp_path, hub_cache_seconds=0) == CONFIG
    assert fetch(hub_server.endpoint, tmp_path, hub_cache_seconds=0, hub_offline=True) == CONFIG


def test_a_spoiled_copy_on_disk_is_fetched_again(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.publish(REPO)
    fetch(hub_server.endpoint, tmp_path)
    (file,) = (tmp_path / "hub").iterdir()
    file.write_text(file.read_text()[:40])
    assert fetch(hub_server.endpoint, tmp_path) == CONFIG
    assert json.loads(file.read_text())["config"] == CONFIG


def test_a_folder_that_cannot_be_written_does_not_stop_a_fetch(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.publish(REPO)
    (tmp_path / "hub").write_text("a file where the folder should be")
    assert fetch(hub_server.endpoint, tmp_path) == CONFIG


def test_the_token_goes_to_the_hub_and_nowhere_else(
    hub_server: FakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with running_hub() as elsewhere:
        elsewhere.say("/signed", 200, json.dumps(CONFIG).encode())
        hub_server.say(f"/{REPO}/resolve/main/config.json", 307, location="/renamed")
        hub_server.say("/renamed", 302, location=f"{elsewhere.endpoint}/signed")
        assert fetch(hub_server.endpoint, tmp_path, hub_token="hf_secret") == CONFIG
        assert [asked.headers.get("authorization") for asked in hub_server.asked] == ["Bearer hf_secret"] * 2
        assert "authorization" not in elsewhere.asked[0].headers
        assert "hf_secret" not in str(elsewhere.asked)
    assert "hf_secret" not in caplog.text
    assert "hf_secret" not in "".join(file.read_text() for file in tmp_path.rglob("*.json"))


def said(hub: FakeHub, folder: Path, kind: type[HubError], **settings: Any) -> str:
    """What a person reads when the fetch fails with `kind`."""
    with pytest.raises(HubError) as caught:
        fetch(hub.endpoint, folder, **settings)
    assert type(caught.value) is kind
    assert 400 <= caught.value.status < 500
    (problem,) = caught.value.problems
    assert problem.field == "model"
    assert "config.json" in problem.message
    return f"{caught.value.title} {problem.message}"


def test_a_missing_model_is_said_to_be_missing(hub_server: FakeHub, tmp_path: Path) -> None:
    assert "Neither the catalogue nor the hub knows 'acme/tiny-llama'" in said(hub_server, tmp_path, ModelNotOnHubError)


def test_a_repository_without_config_is_told_apart_from_a_missing_one(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.say(f"/{REPO}/resolve/main/config.json", 404, x_error_code="EntryNotFound")
    assert "holds no config.json" in said(hub_server, tmp_path, ModelNotOnHubError)


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_names_the_licence_page_and_the_token(hub_server: FakeHub, tmp_path: Path, status: int) -> None:
    hub_server.say(f"/{REPO}/resolve/main/config.json", status, x_error_code="GatedRepo")
    words = said(hub_server, tmp_path, GatedModelError)
    assert f"{hub_server.endpoint}/{REPO}" in words
    assert "set HF_TOKEN" in words


def test_an_unknown_model_that_the_hub_hides_behind_401_is_missing(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.say(f"/{REPO}/resolve/main/config.json", 401, x_error_code="RepoNotFound")
    said(hub_server, tmp_path, ModelNotOnHubError)


@pytest.mark.parametrize(
    "body", [b"<html>", b"[1, 2]", b'"text"', b"\xff\xfe{}", b"[" * 100_000, b"{" + b'"a":{' * 60 + b"}" * 61, b""]
)
def test_a_malformed_config_is_said_to_be_malformed(hub_server: FakeHub, tmp_path: Path, body: bytes) -> None:
    hub_server.say(f"/{REPO}/resolve/main/config.json", 200, body)
    assert "not a JSON object" in said(hub_server, tmp_path, MalformedConfigError)


def test_infinity_as_python_writes_it_is_read_as_null(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.say(f"/{REPO}/resolve/main/config.json", 200, b'{"time_step_limit": [0.0, Infinity]}')
    assert fetch(hub_server.endpoint, tmp_path) == {"time_step_limit": [0.0, None]}


def test_an_endless_config_is_cut_off(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.endless_paths.add(f"/{REPO}/resolve/main/config.json")
    assert "larger than 100000 bytes" in said(hub_server, tmp_path, ConfigTooLargeError, hub_max_config_bytes=100_000)


def test_a_hub_that_drips_is_given_up_in_time(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.slow_paths.add(f"/{REPO}/resolve/main/config.json")
    assert "within 0.3 seconds" in said(hub_server, tmp_path, HubTimeoutError, hub_timeout_seconds=0.3)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_trouble_at_the_hub_is_the_hubs(hub_server: FakeHub, tmp_path: Path, status: int) -> None:
    hub_server.say(f"/{REPO}/resolve/main/config.json", status)
    assert f"answered {status}" in said(hub_server, tmp_path, HubTroubleError)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://example.org/x", "javascript:1"])
def test_a_redirect_astray_is_not_followed(hub_server: FakeHub, tmp_path: Path, location: str) -> None:
    hub_server.say(f"/{REPO}/resolve/main/config.json", 302, location=location)
    assert "not safe to follow" in said(hub_server, tmp_path, HubTroubleError)


def test_a_redirect_from_https_to_http_is_not_followed() -> None:
    repo = RepoName(REPO)
    with pytest.raises(HubTroubleError, match="not safe to follow"):
        safe_redirect(repo, httpx.URL("https://hub.example/a"), "http://hub.example/b")
    assert safe_redirect(repo, httpx.URL("http://hub.example/a"), "https://cdn.example/b").host == "cdn.example"


def test_a_circle_of_redirects_ends(hub_server: FakeHub, tmp_path: Path) -> None:
    path = f"/{REPO}/resolve/main/config.json"
    hub_server.say(path, 302, location=path)
    assert "in circles" in said(hub_server, tmp_path, HubTroubleError)
    assert len(hub_server.asked) == 6


def test_a_hub_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    with running_hub() as gone:
        pass
    assert "cannot be reached" in said(gone, tmp_path, HubUnreachableError)


def test_offline_means_that_nobody_is_asked(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.publish(REPO)
    assert "stay offline" in said(hub_server, tmp_path, HubUnreachableError, hub_offline=True)
    assert hub_server.asked == []


@pytest.mark.parametrize("name", ["gpt2", "meta-llama/Llama-2-7b-hf", "a/b@refs/pr/3", "a/b@0a1b2c", "O_o/x.y-z_1"])
def test_names_of_repositories_are_recognised(name: str) -> None:
    assert str(RepoName.parse(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "", "/", "a/", "/b", "a/b/c", "../../etc", "a/..", "a/b..c", "a/b@../../x", "a/b@", "a b", "a/b?x=1", "a/b#c",
        "a%2fb", "http://x/y", "a\\b", "-a/b", "a/b.", "a--b/c", "a/" + "b" * 97, "é/b", "a/b\n", "a@b@c",
    ],
)  # fmt: skip
def test_anything_that_could_lead_elsewhere_is_no_name(name: str) -> None:
    assert RepoName.parse(name) is None


def test_the_cache_forgets_the_oldest_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MOST_FILES", 8)
    kept = ConfigCache(tmp_path)
    for number in range(40):
        kept.put(f"https://hub/{number}", {"n": number}, None)
    assert len(list(tmp_path.iterdir())) <= 9
    assert kept.get("https://hub/39") is not None


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://huggingface.co/acme/tiny-llama", "acme/tiny-llama"),
        ("hf.co/acme/tiny-llama/", "acme/tiny-llama"),
        ("https://huggingface.co/acme/tiny-llama/tree/main", "acme/tiny-llama"),
        ("https://huggingface.co/acme/tiny-llama/blob/v2/config.json?download=true", "acme/tiny-llama@v2"),
        ("https://huggingface.co/datasets/acme/words", "https://huggingface.co/datasets/acme/words"),
        ("acme/tiny-llama", "acme/tiny-llama"),
    ],
)
def test_the_address_of_a_models_page_names_the_model(address: str, name: str) -> None:
    assert without_address(address) == name
