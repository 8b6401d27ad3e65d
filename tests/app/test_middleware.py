import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from app.logs import JsonFormatter, TextFormatter, current_request_id
from app.middleware.body import BodyLimit
from app.middleware.headers import SecurityHeaders
from app.middleware.requests import RequestLog
from tests.app.serving import served

LIMIT_BYTES = 4096
BODY_SECONDS = 0.5


async def echo(request: Request) -> Response:
    return JSONResponse({"bytes": len(await request.body()), "request_id": current_request_id()})


async def ignores_its_body(_: Request) -> Response:
    return Response("answered without reading")


async def swallows_errors(request: Request) -> Response:
    try:
        await request.body()
    except Exception:  # some frameworks' form parsers do just this
        return Response("bad form", 400)
    return Response("fine")


async def breaks(_: Request) -> Response:
    secret = "hunter2"
    raise RuntimeError(secret)


async def takes_its_time(_: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(BODY_SECONDS / 2)
            yield b"done"

    return StreamingResponse(pieces())


async def breaks_half_way(_: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError

    return StreamingResponse(pieces())


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    routes = [
        Route("/echo", echo, methods=["POST"]),
        Route("/left", echo, methods=["POST"]),
        Route("/ignores", ignores_its_body, methods=["POST"]),
        Route("/swallows", swallows_errors, methods=["POST"]),
        Route("/slow", takes_its_time),
        Route("/breaks", breaks),
        Route("/breaks-half-way", breaks_half_way),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(RequestLog),
            Middleware(BodyLimit, max_bytes=LIMIT_BYTES, body_seconds=BODY_SECONDS),
        ],
    )
    with served(app) as client:
        yield client


def in_chunks(total_bytes: int) -> Iterator[bytes]:
    while total_bytes > 0:
        yield b"x" * min(1000, total_bytes)
        total_bytes -= 1000


def assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "body_too_large"
    assert answer.json()["errors"][0]["field"] == "request"
    assert "FITPROOF_MAX_BODY_BYTES" in answer.json()["errors"][0]["message"]


def test_a_body_of_exactly_the_limit_passes(client: httpx.Client) -> None:
    assert client.post("/echo", content=b"x" * LIMIT_BYTES).json()["bytes"] == LIMIT_BYTES
    assert client.post("/echo", content=in_chunks(LIMIT_BYTES)).json()["bytes"] == LIMIT_BYTES


@pytest.mark.parametrize("path", ["/echo", "/swallows", "/ignores"])
def test_an_announced_body_beyond_the_limit_is_refused(client: httpx.Client, path: str) -> None:
    assert_refused(client.post(path, content=b"x" * (LIMIT_BYTES + 1)))


@pytest.mark.parametrize("path", ["/echo", "/swallows"])
def test_a_chunked_body_beyond_the_limit_is_refused(client: httpx.Client, path: str) -> None:
    assert_refused(client.post(path, content=in_chunks(LIMIT_BYTES + 1)))


def test_ten_megabytes_are_refused_and_the_client_reads_why(client: httpx.Client) -> None:
    assert_refused(client.post("/echo", content=b"x" * 10_000_000))


def test_a_client_that_waits_for_permission_is_refused_at_once(client: httpx.Client) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=5) as connection:
        connection.sendall(
            b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\nexpect: 100-continue\r\n\r\n"
        )
        assert b" 413 " in connection.recv(4096).splitlines()[0]


@pytest.mark.parametrize("path", ["/echo", "/swallows"])
def test_a_client_that_sends_its_body_drop_by_drop_is_sent_away(client: httpx.Client, path: str) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=5) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n".encode())
        for _ in range(4):
            connection.sendall(b"x")
            time.sleep(BODY_SECONDS / 8)
        answer = connection.recv(4096)
        while b"body_too_slow" not in answer and (piece := connection.recv(4096)):  # it may come in pieces
            answer += piece
    assert b" 408 " in answer.splitlines()[0]
    assert b"body_too_slow" in answer


def test_an_answer_may_take_longer_than_a_body(client: httpx.Client) -> None:
    assert client.get("/slow").text == "done" * 3


def test_an_unforeseen_error_is_a_problem_without_a_trace(client: httpx.Client) -> None:
    answer = client.get("/breaks")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text


def test_an_error_after_the_first_bytes_ends_the_connection(client: httpx.Client) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/breaks-half-way")


def test_every_answer_carries_the_security_headers(client: httpx.Client) -> None:
    too_large = client.post("/echo", content=b"x" * (LIMIT_BYTES + 1))
    for answer in (client.post("/echo"), client.get("/nowhere"), client.get("/breaks"), too_large):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_request_id_follows_the_request(client: httpx.Client) -> None:
    answer = client.post("/echo", headers={"x-request-id": "job-42"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "job-42"


@pytest.mark.parametrize("offered", ["", "x" * 65, "a b", "é"])
def test_a_harmful_request_id_is_replaced(client: httpx.Client, offered: str) -> None:
    given = client.post("/echo", headers={b"x-request-id": offered.encode()}).headers["x-request-id"]
    assert given != offered
    assert len(given) == 16


def access_records(caplog: pytest.LogCaptureFixture, path: str) -> list[logging.LogRecord]:
    """The line is written once the answer is sent: the client may have it a moment earlier."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        records = [record for record in caplog.records if record.name == "fitproof.access"]
        if records := [record for record in records if record.getMessage().endswith(path)]:
            return records
        time.sleep(0.01)
    return []


def test_each_request_is_one_structured_line(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fitproof.access")
    client.get("/no%0Awhere?secret=1")
    (record,) = access_records(caplog, "/no%0Awhere")
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "GET /no%0Awhere"
    assert line["status"] == 404
    assert line["ms"] > 0
    assert line["level"] == "info"


def test_a_client_that_leaves_half_way_is_no_error_of_ours(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=5) as connection:
        connection.sendall(b"POST /left HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nonly this")
    (record,) = access_records(caplog, "/left")
    assert vars(record)["status"] == 499
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_text_lines_hold_the_same_facts() -> None:
    record = logging.makeLogRecord({"name": "fitproof.access", "levelname": "INFO", "msg": "GET /", "status": 200})
    assert TextFormatter().format(record).endswith("INFO fitproof.access GET / status=200")
