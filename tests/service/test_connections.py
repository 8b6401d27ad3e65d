"""Clients that connect and do not ask: they get their time, not the server's."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from app.connections import HEADER_SECONDS
from tests.service.harness import wait_until
from tests.service.test_serve import answers, serving

HALF = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    with serving(tmp_path) as (_process, client):
        wait_until(lambda: answers(client, "/readyz"), 40, (tmp_path / "log").read_text)
        yield client


def connected(stack: ExitStack, client: httpx.Client, sent: bytes = HALF) -> socket.socket:
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", client.base_url.port or 80), 10))
    connection.sendall(sent)
    return connection


def test_three_thousand_half_sent_headers_hold_up_nobody(client: httpx.Client, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        with ExitStack() as stack:
            seconds = []
            for number in range(3_000):
                connected(stack, client)
                if number % 100 == 0:
                    started = time.monotonic()
                    assert httpx.get(client.base_url.join("/healthz"), timeout=5).status_code == 200
                    seconds.append(time.monotonic() - started)
        assert max(seconds) < 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (tmp_path / "log").stat().st_size < 1 << 20


def test_a_header_that_drips_is_cut_off(client: httpx.Client) -> None:
    with ExitStack() as stack:
        slow = connected(stack, client)
        started = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - started < 3 * HEADER_SECONDS:
                slow.sendall(b"x")
                time.sleep(0.2)
        assert time.monotonic() - started < 1.5 * HEADER_SECONDS


def test_a_connection_that_asks_in_time_asks_again_and_again(client: httpx.Client) -> None:
    with ExitStack() as stack:
        whole = HALF + b"no\r\n\r\n"
        steady = connected(stack, client, whole)
        for _ in range(8):
            assert answered(steady)
            time.sleep(2)
            steady.sendall(whole)
        assert answered(steady)


def answered(connection: socket.socket) -> bool:
    said = b""
    while not said.endswith(b"}"):
        more = connection.recv(65_536)
        if not more:
            return False
        said += more
    return said.startswith(b"HTTP/1.1 200")
