"""A ceiling on request bodies, whether they announce their length or come in chunks, and on the time they take."""

import asyncio
import contextlib
from dataclasses import replace
from typing import Literal

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import Problem
from planner.errors import FieldProblem
from planner.units import MIB

# A client that is still sending cannot read our answer, so what it sends is thrown away first, within reason.
_DISCARDED_BYTES = 64 * MIB
_DISCARDING_SECONDS = 10.0
# A mebibyte in half a minute is a slow modem; slower still is a client that means to hold on to us.
BODY_SECONDS = 30.0


class _UnusableError(Exception):
    """The body passed a ceiling while the application was reading it."""


class BodyLimit:
    """Answers 413 and 408 itself; the application never sees more than `max_bytes`, nor waits for longer."""

    def __init__(self, app: ASGIApp, max_bytes: int, body_seconds: float = BODY_SECONDS) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if _announced_bytes(headers) > self.max_bytes:
            await self._refuse(scope, receive, send, sent="100-continue" not in headers.get("expect", ""))
            return
        body = _CountedBody(receive, self.max_bytes, self.body_seconds)
        guarded = _GuardedSend(send, body)
        with contextlib.suppress(_UnusableError):
            await self.app(scope, body, guarded)
        if body.unusable == "too large" and not guarded.started:
            await self._refuse(scope, receive, send, sent=body.more)
        elif body.unusable == "too slow" and not guarded.started:
            fix = f"must arrive within {self.body_seconds:g} s; send it again"
            problem = Problem(408, "body_too_slow", "The body did not arrive in time.", [FieldProblem("request", fix)])
            await replace(problem, headers={"connection": "close"}).response()(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, *, sent: bool) -> None:
        """Answer 413. `sent` says that the client is sending (on) without waiting for permission."""
        if sent:
            await _discard(receive)
        title = "The body is larger than this server accepts."
        fix = f"must be at most {self.max_bytes} bytes; send less or raise FITPROOF_MAX_BODY_BYTES"
        problem = Problem(413, "body_too_large", title, [FieldProblem("request", fix)], {"connection": "close"})
        await problem.response()(scope, receive, send)


class _CountedBody:
    """`receive`, until a ceiling is passed."""

    def __init__(self, receive: Receive, max_bytes: int, seconds: float) -> None:
        self.receive = receive
        self.left_bytes = max_bytes
        self.ends_at = asyncio.get_running_loop().time() + seconds
        self.unusable: Literal["", "too large", "too slow"] = ""
        self.more = True

    async def __call__(self) -> Message:
        try:
            # After the body one waits for the client to leave, however long that is.
            async with asyncio.timeout_at(self.ends_at if self.more else None):
                message = await self.receive()
        except TimeoutError:
            self.unusable = "too slow"
            raise _UnusableError from None
        self.more = message.get("more_body", False)
        if message["type"] == "http.request":
            self.left_bytes -= len(message.get("body", b""))
            if self.left_bytes < 0:
                self.unusable = "too large"
                raise _UnusableError
        return message


class _GuardedSend:
    """`send`, muted once the body was unusable: whatever the application made of that, ours is the answer."""

    def __init__(self, send: Send, body: _CountedBody) -> None:
        self.send = send
        self.body = body
        self.started = False

    async def __call__(self, message: Message) -> None:
        if self.body.unusable and not self.started:
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
