"""Hands the requests that compute to the workers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.compute.answering import computed_paths
from app.compute.answers import Answered, Answers
from app.compute.budgets import BUDGET_SECONDS
from app.compute.refusals import BusyError
from app.middleware.compression import accepts
from app.problems import ErrorPage, Problem, answer_for
from planner.errors import FieldProblem, FitproofError

# Nothing that a caller writes changes this page: it is worked out once for what was measured so far.
ACCURACY = "/accuracy"


class Computed:
    """Plain ASGI before the router."""

    def __init__(self, app: ASGIApp, answers: Answers, page: ErrorPage | None = None) -> None:
        self.app, self.answers, self.page = app, answers, page
        self._whole, self._beginnings = computed_paths()
        self._accuracy = Kept()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not self._is_computed(scope["path"]):
            await self.app(scope, receive, send)
            return
        scope["route"] = self  # what RequestMetrics looks for: the path is one of ours
        body = await _whole_body(receive)
        answering = asyncio.ensure_future(self._kept_or_new(scope, body))
        leaving = asyncio.ensure_future(_until_it_leaves(receive))
        try:
            await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ClientDisconnect
            status, headers, content = answering.result()
        except FitproofError as error:
            response = answer_for(scope, Problem.of(error), self.page)
            await response(scope, receive, send)
            return
        finally:
            answering.cancel()
            leaving.cancel()
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content if scope["method"] != "HEAD" else b""})

    def _is_computed(self, path: str) -> bool:
        return path in self._whole or path.startswith(self._beginnings)

    async def _kept_or_new(self, scope: Scope, body: bytes) -> Answered:
        if scope["path"] != ACCURACY or scope["method"] != "GET":
            return await self.answers.answer(scope, body, _client(scope))
        asked = Headers(scope=scope).get("accept-encoding", "")
        coding = next((name for name in ("br", "gzip") if accepts(asked, name)), "identity")
        plain = {**scope, "query_string": b"", "headers": [(b"accept-encoding", coding.encode())]}
        version = (coding, await self.answers.tell(("own runs' version",), ACCURACY))
        # What all clients share counts for none of them.
        return await self._accuracy.get(version, lambda: self.answers.answer(plain, b"", ACCURACY))


class Kept:
    """One answer for each way to send it, as long as what it rests on stays the same."""

    def __init__(self) -> None:
        self._answers: dict[str, tuple[Any, Answered]] = {}
        self._working = asyncio.Lock()

    async def get(self, version: tuple[str, Any], answer: Callable[[], Awaitable[Answered]]) -> Answered:
        """The answer for `version`; concurrent requests for it share one computation."""
        try:
            # All wait for one computation, which takes no client's place: longer than for a place in the pool.
            async with asyncio.timeout(BUDGET_SECONDS):
                await self._working.acquire()
        except TimeoutError:
            raise BusyError("This page is being worked out.", [FieldProblem("request", "try again in 2 s")]) from None
        try:
            coding, rests_on = version
            kept = self._answers.get(coding)
            if kept is None or kept[0] != rests_on:
                kept = (rests_on, await answer())
                if kept[1][0] == HTTPStatus.OK:
                    self._answers[coding] = kept
            return kept[1]
        finally:
            self._working.release()


def _client(scope: Mapping[str, Any]) -> str:
    """Who shares the workers: an address, or the network of an IPv6 one."""
    address = str(scope["client"][0]) if scope.get("client") else ""
    return ":".join(address.split(":")[:4]) if address.count(":") > 1 and "." not in address else address


async def _whole_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


async def _until_it_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
