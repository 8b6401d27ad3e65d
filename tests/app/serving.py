"""A real uvicorn on a free loopback port, in a thread of the test process."""

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from starlette.types import ASGIApp


@contextmanager
def served(app: ASGIApp) -> Iterator[httpx.Client]:
    """Serve `app` until the block ends; hands out a client of it."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="auto"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive(), "the server ended while it was starting"
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    try:
        with httpx.Client(base_url=f"http://{host}:{port}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def reading_stderr(process: subprocess.Popen[str], pattern: str, patience_seconds: float = 60.0) -> str:
    """The first match of `pattern` in what `process` says on stderr."""
    assert process.stderr is not None
    said = ""
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline and process.poll() is None:
        said += process.stderr.readline()
        if match := re.search(pattern, said):
            return match.group()
    raise AssertionError(said)
