"""The application requests its own pages, so that no user waits for what the first view computes."""

import asyncio
from typing import Any

from starlette.types import ASGIApp


async def prefetch(app: ASGIApp, path: str, coding: str = "identity") -> None:
    """GET `path` of `app` in a content coding; the answer is thrown away."""
    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"accept-encoding", coding.encode())], "scheme": "http",
        "server": ("127.0.0.1", 80), "client": None, "http_version": "1.1", "root_path": "", "app": app, "state": {},
    }  # fmt: skip
    await app(scope, _Receive(), _thrown_away)


class _Receive:
    """A request without a body, whose client stays."""

    def __init__(self) -> None:
        self._asked = False

    async def __call__(self) -> dict[str, object]:
        if self._asked:
            await asyncio.Event().wait()
        self._asked = True
        return {"type": "http.request", "body": b"", "more_body": False}


async def _thrown_away(message: object) -> None:
    del message
