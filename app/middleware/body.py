"""A ceiling on request bodies, whether they announce their length or come in chunks."""

import asyncio
import contextlib

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import Problem
from planner.errors import FieldProblem
from planner.units import MIB

# A client that is still sending cannot read our answer, so what it sends is thrown away first, within reason.
_DISCARDED_BYTES = 64 * MIB
_DISCARDING_SECONDS = 10.0


class _TooLargeError(Exception):
    """The body passed the ceiling while the application was reading it."""


class BodyLimit:
    """Answers 413 itself; the application never sees more than `max_bytes`."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if _announced_bytes(headers) > self.max_bytes:
            await self._refuse(scope, receive, send, sent="100-continue" not in headers.get("expect", ""))
            return
        body = _CountedBody(receive, self.max_bytes)
        guarded = _GuardedSend(send, body)
        with contextlib.suppress(_TooLargeError):
            await self.app(scope, body, guarded)
        if body.too_large and not guarded.started:
            await self._refuse(scope, receive, send, sent=body.more)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, *, sent: bool) -> None:
        """Answer 413. `sent` says that the client is sending (on) without waiting for permission."""
        if sent:
            await _discard(receive)
        title = "The body is larger than this server accepts."
        fix = f"must be at most {self.max_bytes} bytes; send less or raise FITPROOF_MAX_BODY_BYTES"
        problem = Problem(413, "body_too_large", title, [FieldProblem("request", fix)], {"connection": "close"})
        await problem.response()(scope, receive, send)


class _CountedBody:
    """`receive`, until the ceiling is passed."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self.receive = receive
        self.left_bytes = max_bytes
        self.too_large = False
        self.more = True

    async def __call__(self) -> Message:
        message = await self.receive()
        self.more = message.get("more_body", False)
        if message["type"] == "http.request":
            self.left_bytes -= len(message.get("body", b""))
            if self.left_bytes < 0:
                self.too_large = True
                raise _TooLargeError
        return message


class _GuardedSend:
    """`send`, muted once the body was too large: whatever the application made of that, 413 is the answer."""

    def __init__(self, send: Send, body: _CountedBody) -> None:
        self.send = send
        self.body = body
        self.started = False

    async def __call__(self, message: Message) -> None:
        if self.body.too_large and not self.started:
            return
        self.started = True
        await self.send(message)


def _announced_bytes(headers: Headers) -> int:
    length = headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0


async def _discard(receive: Receive) -> None:
    left_bytes = _DISCARDED_BYTES
    try:
        async with asyncio.timeout(_DISCARDING_SECONDS):
            while left_bytes > 0:
                message = await receive()
                left_bytes -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
    except TimeoutError:
        return
