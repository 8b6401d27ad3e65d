"""Answers of the workers, and what they ask for in between."""

import pickle
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic_core import from_json, to_json

from app.compute.pool import Pool
from app.compute.questions import ALONE, Facts, Question
from app.logs import current_request_id
from planner.errors import FieldProblem, FitproofError

# A configuration names one model, a comparison two; each may have measurements.
_MOST_QUESTIONS = 8
_SENT_ALONG = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers")
_OWN_SCOPE = {
    "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "query_string": b"", "root_path": "",
    "headers": [(b"content-type", b"application/json")],
}  # fmt: skip

# Finds a fact for a client.
Tell = Callable[[Question, str], Awaitable[Any]]
Answered = tuple[int, list[tuple[bytes, bytes]], bytes]


class AnsweredError(FitproofError):
    """What a worker refused, as it refused it."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        super().__init__(said["title"], [FieldProblem(each["field"], each["message"]) for each in said["errors"]])
        self.status, self.code = said["status"], said["code"]


class Answers:
    """`facts` is what workers know from the start, `tell` answers their questions."""

    def __init__(self, pool: Pool, facts: Callable[[], Facts], tell: Tell) -> None:
        self.pool, self.facts, self.tell = pool, facts, tell

    async def answer(self, scope: Mapping[str, Any], body: bytes, client: str) -> Answered:
        """Have one request answered for `client`.

        Raises:
            FitproofError: as `Pool.answer` does.
        """
        request = {
            "id": current_request_id(),
            "scope": {name: scope[name] for name in _SENT_ALONG if name in scope}
            | {"server": scope.get("server"), "client": scope.get("client")},
            "body": body,
        }
        facts = self.facts()

        async def tell_now(question: Question) -> bytes | None:
            """What is measured lies in the database; the hub may take its time."""
            if question[0] != "measurements":
                return None
            facts.known[question] = await self.tell(question, client)
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
                facts.known[question] = await self.tell(question, client)
        raise RuntimeError(f"a request asks on and on: {question}")

    async def ask(self, path: str, document: Any, client: str) -> Any:
        """Have a question of the server's own answered: see `app.compute.internal`.

        Raises:
            FitproofError: what the worker says is wrong with the document, or as `Pool.answer` does.
        """
        scope = {**_OWN_SCOPE, "path": path, "raw_path": path.encode()}
        status, _, content = await self.answer(scope, to_json(document), client)
        said = from_json(content)
        if status != HTTPStatus.OK:
            raise AnsweredError(said)
        return said
