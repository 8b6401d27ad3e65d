"""A real uvicorn in its own process on a free loopback port, and a small keep-alive client to load it."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def uvicorn_of(factory: str) -> list[str]:
    """The arguments of a program that serves the app factory `module:function`."""
    return ["-m", "uvicorn", "--factory", factory, "--log-level", "error", "--no-access-log"]


def fitproof_with(workers: int) -> list[str]:
    """The arguments of the product's own server."""
    return ["-m", "app.cli", "serve", "--workers", str(workers)]


@contextmanager
def served(arguments: Sequence[str], data_dir: Path) -> Iterator[int]:
    """Run a server of Python's `arguments`; yields the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, *arguments, "--port", str(port)]
    environment = os.environ | {"FITPROOF_DATA_DIR": str(data_dir), "FITPROOF_LOG_LEVEL": "error"}
    environment["FITPROOF_LOCAL_ACCESS"] = "yes"
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()


def requests_per_second(port: int, messages: Sequence[bytes], total: int, connections: int = 8) -> float:
    """Send `total` HTTP/1.1 requests over `connections` keep-alive connections, cycling through `messages`."""
    start = time.perf_counter()
    asyncio.run(_load(port, messages, total // connections, connections))
    return total / (time.perf_counter() - start)


def message(method: str, path: str, body: bytes = b"") -> bytes:
    """One raw request."""
    head = f"{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def _load(port: int, messages: Sequence[bytes], each: int, connections: int) -> None:
    await asyncio.gather(*(_connection(port, messages, each, index) for index in range(connections)))


async def _connection(port: int, messages: Sequence[bytes], each: int, offset: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for index in range(each):
        writer.write(messages[(offset * each + index) % len(messages)])
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(head.decode(errors="replace"))
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
    writer.close()
    await writer.wait_closed()


def _wait_for(port: int, patience_seconds: float = 20.0) -> None:
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")
