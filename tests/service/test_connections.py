"""Clients that connect and do not ask: they get their time, not the server's."""

import asyncio
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from app.compute.memory import own_bytes
from app.network.connections import HEADER_SECONDS, quiet_accept_errors
from planner.units import MIB
from tests.service.harness import wait_until
from tests.service.test_serve import answers, serving

HALF = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "


class Running(NamedTuple):
    """A server for the tests of this file."""

    pid: int
    client: httpx.Client
    log: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("data")
    log = folder / "log"
    with serving(folder) as (process, client):
        wait_until(lambda: answers(client, "/readyz"), 40, log.read_text)
        yield Running(process.pid, client, log)


@pytest.fixture
def client(server: Running) -> httpx.Client:
    return server.client


def connected(stack: ExitStack, client: httpx.Client, sent: bytes = HALF) -> socket.socket:
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", client.base_url.port or 80), 10))
    connection.sendall(sent)
    return connection


def test_requests_sent_before_their_turn_are_not_kept_by_the_thousand(server: Running) -> None:
    pid, client, _ = server
    # First in this file: memory that another test made the server take would hide what this one makes it take.
    before_bytes = own_bytes(pid) or 0
    with ExitStack() as stack:
        for _ in range(40):
            with suppress(ConnectionError):
                connected(stack, client, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 6_000)
        for _ in range(10):
            assert client.get("/healthz").status_code == 200
            assert (own_bytes(pid) or 0) - before_bytes < 50 * MIB


def test_three_thousand_half_sent_headers_hold_up_nobody(server: Running) -> None:
    client, logged_bytes = server.client, server.log.stat().st_size
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
    assert server.log.stat().st_size - logged_bytes < 1 << 20


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


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-More: 1\r\n" * 100_000, id="headers"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 1_000_000, id="one header"),
        pytest.param(
            b"POST /api/v1/plans HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"
            + b"X-More: 1\r\n" * 100_000,
            id="trailers",
        ),
    ],
)
def test_a_request_whose_head_does_not_end_is_cut_off(client: httpx.Client, endless: bytes) -> None:
    with ExitStack() as stack:
        started = time.monotonic()
        with suppress(ConnectionError):
            connection = connected(stack, client, endless)
            while connection.recv(65_536):
                pass
        assert time.monotonic() - started < HEADER_SECONDS / 2


def answered(connection: socket.socket) -> bool:
    said = b""
    while not said.endswith(b"}"):
        more = connection.recv(65_536)
        if not more:
            return False
        said += more
    return said.startswith(b"HTTP/1.1 200")


def test_connections_that_cannot_be_accepted_are_spoken_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    async def act() -> None:
        loop = asyncio.get_running_loop()
        quiet_accept_errors(loop)
        for _ in range(1000):
            loop.call_exception_handler(
                {"message": "socket.accept() out of system resource", "exception": OSError(24, "Too many open files")}
            )
        loop.call_exception_handler({"message": "something else", "exception": ValueError("odd")})

    asyncio.run(act())
    accepts = [line for line in caplog.messages if "Too many open files" in line]
    assert len(accepts) == 1
    assert any("something else" in line for line in caplog.messages)


# Takes every file that this process may open, lets forty clients knock, gives the files back and lets one more in.
_WITHOUT_FILES = """
import asyncio, importlib, logging, os, resource, socket, sys

from app.network.connections import quiet_accept_errors

async def act():
    quiet_accept_errors(asyncio.get_running_loop())
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    clients = [socket.socket() for _ in range(40)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    held = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for client in clients:
        client.setblocking(False)
        client.connect_ex(address)
    await asyncio.sleep(1)
    for file in held:
        os.close(file)
    for client in clients:
        client.close()
    reader, _ = await asyncio.wait_for(asyncio.open_connection(*address), 60)
    assert await asyncio.wait_for(reader.read(), 60) == b""
    print(type(asyncio.get_running_loop()).__module__)

logging.basicConfig()
importlib.import_module(sys.argv[1]).run(act())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_server_out_of_files_writes_a_line_and_comes_back(loop: str) -> None:
    """asyncio reports each refusal; libuv takes such connections and closes them, and reports none."""
    ran = subprocess.run(
        [sys.executable, "-c", _WITHOUT_FILES, loop], capture_output=True, text=True, timeout=180, check=True
    )
    assert ran.stdout.startswith(loop)
    assert len(ran.stderr.splitlines()) <= 1
