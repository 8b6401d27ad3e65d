"""A trainer's file by its address: fetched by the server, from the hosts it knows and no other."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.hub.errors import MissingFileError, RefusedAddressError, RemoteFileError, RemoteFileTroubleError
from app.hub.file_address import file_address, is_address
from app.hub.remote_file import LARGEST_FILE_BYTES, RemoteFiles
from app.main import create_app
from app.settings import Settings
from tests.app.hub_server import FakeHub, running_hub
from tests.app.serving import served
from tests.service.forking import forked_template

HUB = "https://huggingface.co"
PAGE = "https://github.com/acme/recipes/blob/main/qlora.yml"
RAW = "/acme/recipes/main/qlora.yml"
AXOLOTL = "base_model: meta-llama/Llama-3.1-8B\nadapter: qlora\nload_in_4bit: true\nsequence_len: 2048\n"


class ToOneServer(httpx.AsyncHTTPTransport):
    """Carries every request to one local server, whatever host it is for, and keeps the hosts."""

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self._endpoint = httpx.URL(endpoint)
        self.hosts: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.hosts.append(request.url.host)
        request.url = request.url.copy_with(scheme="http", host=self._endpoint.host, port=self._endpoint.port)
        return await super().handle_async_request(request)


@pytest.fixture
def host() -> Iterator[FakeHub]:
    with running_hub() as server:
        yield server


def settings(folder: Path, **changes: Any) -> Settings:
    given = {"data_dir": folder, "hub_endpoint": HUB, "hub_token": "secret", "hub_timeout_seconds": 20.0}
    return Settings(**{**given, "hub_offline": False, **changes})


def fetched(host: FakeHub, folder: Path, address: str = PAGE, **changes: Any) -> str:
    return asyncio.run(RemoteFiles(settings(folder, **changes), ToOneServer(host.endpoint)).text(address))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (PAGE, f"https://raw.githubusercontent.com{RAW}"),
        ("https://github.com/acme/recipes/raw/main/a/b%20c.yml?plain=1#L3",
         "https://raw.githubusercontent.com/acme/recipes/main/a/b%20c.yml"),
        (f" https://raw.githubusercontent.com{RAW}\n", f"https://raw.githubusercontent.com{RAW}"),
        ("https://gist.github.com/acme/0123abc", "https://gist.githubusercontent.com/acme/0123abc/raw"),
        ("https://gist.githubusercontent.com/acme/0123abc/raw/x.yml",
         "https://gist.githubusercontent.com/acme/0123abc/raw/x.yml"),
        (f"{HUB}/acme/tiny/blob/main/train.yml", f"{HUB}/acme/tiny/resolve/main/train.yml"),
        ("https://hf.co/datasets/acme/tiny/raw/v1/x/train.py", f"{HUB}/datasets/acme/tiny/resolve/v1/x/train.py"),
    ],
)  # fmt: skip
def test_a_page_of_a_file_means_the_file(written: str, meant: str) -> None:
    assert is_address(written)
    assert file_address(written, HUB) == meant


def test_the_hubs_files_come_from_the_hub_that_is_set() -> None:
    assert file_address(f"{HUB}/acme/tiny/blob/main/a.yml", "http://mirror:8080") == (
        "http://mirror:8080/acme/tiny/resolve/main/a.yml"
    )


@pytest.mark.parametrize(
    "address",
    [
        PAGE.replace("https", "http"),
        "https://example.com/a.yml",
        "https://127.0.0.1/a.yml",
        "https://[::1]/a.yml",
        "https://169.254.169.254/latest/meta-data",
        "https://localhost/a.yml",
        "https://raw.githubusercontent.com.example.com/a.yml",
        "https://raw.githubusercontent.com@example.com/a.yml",
        "https://someone@github.com/acme/recipes/blob/main/a.yml",
        "https://github.com:8443/acme/recipes/blob/main/a.yml",
        "https://github.com:x/acme/recipes/blob/main/a.yml",
        "https://github.com/acme/recipes/blob/main/../../../x/y/z",
        "https://github.com/acme/recipes/blob/main/%2e%2e/a.yml",
        "https://github.com/acme/recipes",
        f"{HUB}/acme/tiny",
        "https://[::1",
    ],
)
def test_no_other_host_is_asked(host: FakeHub, tmp_path: Path, address: str) -> None:
    assert is_address(address)
    with pytest.raises(RefusedAddressError) as refused:
        fetched(host, tmp_path, address)
    assert refused.value.problems[0].field == "url"
    assert not host.asked


def test_a_file_comes_without_a_token(host: FakeHub, tmp_path: Path) -> None:
    host.say(RAW, 200, AXOLOTL.encode())
    assert fetched(host, tmp_path) == AXOLOTL
    assert "authorization" not in host.asked[0].headers


def test_a_redirect_to_a_known_host_is_followed(host: FakeHub, tmp_path: Path) -> None:
    host.say(RAW, 302, location="https://gist.githubusercontent.com/acme/1/raw")
    host.say("/acme/1/raw", 200, b"a: 1")
    assert fetched(host, tmp_path) == "a: 1"


@pytest.mark.parametrize(
    "location",
    ["https://example.com/a", "http://raw.githubusercontent.com/a", "https://10.0.0.1/a", "file:///etc/passwd"],
)
def test_a_redirect_elsewhere_is_not_followed(host: FakeHub, tmp_path: Path, location: str) -> None:
    host.say(RAW, 302, location=location)
    with pytest.raises(RefusedAddressError, match="redirected"):
        fetched(host, tmp_path)
    assert len(host.asked) == 1


def test_what_does_not_come_is_told_in_one_sentence(host: FakeHub, tmp_path: Path) -> None:
    circle, large, page, broken = ("/acme/recipes/main/" + name for name in ("circle", "large", "page", "broken"))
    host.say(circle, 301, location=f"https://raw.githubusercontent.com{circle}")
    host.say(large, 200, b"#" * (LARGEST_FILE_BYTES + 1))
    host.say(page, 200, b"<html>", content_type="text/html; charset=utf-8")
    host.say(broken, 503)
    endless, slow = "/acme/recipes/main/endless", "/acme/recipes/main/slow"
    host.endless_paths.add(endless)
    host.slow_paths.add(slow)
    expected: dict[str, tuple[type[RemoteFileError], str]] = {
        RAW: (MissingFileError, "no such file"),
        circle: (RemoteFileTroubleError, "in circles"),
        large: (RefusedAddressError, "more than 256 KiB"),
        endless: (RefusedAddressError, "more than 256 KiB"),
        page: (RefusedAddressError, "is a web page"),
        broken: (RemoteFileTroubleError, "status 503"),
    }
    for path, (kind, words) in expected.items():
        with pytest.raises(kind, match=words):
            fetched(host, tmp_path, f"https://raw.githubusercontent.com{path}")
    with pytest.raises(RemoteFileTroubleError, match="did not answer within"):
        fetched(host, tmp_path, f"https://raw.githubusercontent.com{slow}", hub_timeout_seconds=0.2)


def test_a_server_that_stays_offline_asks_nobody(host: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(RemoteFileTroubleError, match="stay offline"):
        fetched(host, tmp_path, hub_offline=True)
    assert not host.asked


def test_page_and_api_read_a_file_by_its_address(host: FakeHub, tmp_path: Path) -> None:
    host.say(RAW, 200, AXOLOTL.encode())
    app = create_app(settings(tmp_path), [], forked_template)
    transport = ToOneServer(host.endpoint)
    app.state.files = RemoteFiles(settings(tmp_path), transport)
    with served(app) as client:
        page = client.post("/import", data={"config": PAGE, "gpu": "rtx-4090"})
        assert page.status_code == 200
        assert f'from <a href="{PAGE}"' in page.text
        assert "base_model: meta-llama/Llama-3.1-8B" in page.text
        answer = client.post("/api/v1/imports", json={"config": PAGE, "gpu": "rtx-4090"}).json()
        assert (answer["trainer"], answer["request"]["model"]) == ("axolotl", "meta-llama/Llama-3.1-8B")
        assert set(transport.hosts) == {"raw.githubusercontent.com"}
        refused = client.post("/api/v1/imports", json={"config": "https://example.com/a.yml", "gpu": "rtx-4090"})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "url")
        missing = client.post("/import", data={"config": PAGE.replace("qlora", "none"), "gpu": "rtx-4090"})
        assert missing.status_code == 422
        assert "The address leads nowhere" in missing.text
