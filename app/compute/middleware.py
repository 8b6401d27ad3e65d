"""Hands the requests that compute to the workers, and gets them what they ask for in between."""

import asyncio
import pickle
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.compute.answering import computed_paths
from app.compute.budgets import MOST_WAITING_SECONDS
from app.compute.pool import Pool
from app.compute.questions import ALONE, Facts, Question
from app.compute.refusals import BusyError
from app.logs import current_request_id
from app.problems import ErrorPage, Problem, answer_for
from planner.errors import FieldProblem, FitproofError

# A configuration names one model, a comparison two; each may have measurements.
_MOST_QUESTIONS = 8
_SENT_ALONG = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers")

Tell = Callable[[Question], Awaitable[Any]]
Answered = tuple[int, list[tuple[bytes, bytes]], bytes]

# Nothing that a caller writes changes this page: it is worked out once for what was measured so far.
ACCURACY = "/accuracy"


class Computed:
    """Plain ASGI before the router. `facts` is what workers know from the start, `tell` answers their questions."""

    def __init__(
        self, app: ASGIApp, pool: Pool, facts: Callable[[], Facts], tell: Tell, page: ErrorPage | None = None
    ) -> None:
        self.app, self.pool, self.facts, self.tell, self.page = app, pool, facts, tell, page
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
            return await self._answer(scope, body)
        compressed = "gzip" in Headers(scope=scope).get("accept-encoding", "")
        plain = {**scope, "query_string": b"", "headers": [(b"accept-encoding", b"gzip")] if compressed else []}
        version = (compressed, await self.tell(("own runs' version",)))
        return await self._accuracy.get(version, lambda: self._answer(plain, b""))

    async def _answer(self, scope: Scope, body: bytes) -> Answered:
        request = {
            "id": current_request_id(),
            "scope": {name: scope[name] for name in _SENT_ALONG if name in scope}
            | {"server": scope.get("server"), "client": scope.get("client")},
            "body": body,
        }
        # What all share is nobody's own use.
        facts, client = self.facts(), ACCURACY if scope["path"] == ACCURACY else _client(scope)

        async def tell_now(question: Question) -> bytes | None:
            """What is measured lies in the database; the hub may take its time."""
            if question[0] != "measurements":
                return None
            facts.known[question] = await self.tell(question)
            return pickle.dumps((facts, request))

        for _ in range(_MOST_QUESTIONS):
            reply = await self.pool.answer(client, pickle.dumps((facts, request)), tell_now, alone=facts.alone)
            if reply[0] == "answer":
                _, status, headers, content = reply
                return status, headers, content
            question = tuple(reply[1])
            if question == ALONE:
                facts.alone = True
            else:
                facts.known[question] = await self.tell(question)
        raise RuntimeError(f"a request asks on and on: {question}")


class Kept:
    """One answer for each way to send it, as long as what it rests on stays the same."""

    def __init__(self) -> None:
        self._answers: dict[bool, tuple[Any, Answered]] = {}
        self._working = asyncio.Lock()

    async def get(self, version: tuple[bool, Any], answer: Callable[[], Awaitable[Answered]]) -> Answered:
        """The answer for `version`; whoever else asks for it meanwhile waits for the same."""
        try:
            async with asyncio.timeout(MOST_WAITING_SECONDS):
                await self._working.acquire()
        except TimeoutError:
            raise BusyError("This page is being worked out.", [FieldProblem("request", "try again in 2 s")]) from None
        try:
            compressed, rests_on = version
            kept = self._answers.get(compressed)
            if kept is None or kept[0] != rests_on:
                kept = (rests_on, await answer())
                if kept[1][0] == HTTPStatus.OK:
                    self._answers[compressed] = kept
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
