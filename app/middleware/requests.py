"""Give each request an id, log one line about it, and turn an unforeseen error into a problem."""

import logging
import re
import secrets
import time
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.logs import set_request_id
from app.problems import ErrorPage, Problem, answer_for

_ACCESS = logging.getLogger("fitproof.access")
_ERRORS = logging.getLogger("fitproof.errors")
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestLog:
    """Wraps everything that may fail."""

    def __init__(self, app: ASGIApp, page: ErrorPage | None = None) -> None:
        self.app = app
        self.page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, _briefly(send))
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(Headers(scope=scope).get("x-request-id"))
        set_request_id(request_id)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            # The client has disconnected. 499 is what nginx writes in its log for this.
            status = 499
        except Exception:  # the last line of defence: no stack trace may reach a client
            _ERRORS.exception("unforeseen error")
            if not status:
                await answer_for(scope, Problem.of_status(500), self.page)(scope, receive, send_with_id)
        finally:
            _log(scope, status, time.perf_counter() - started)


def _briefly(send: Send) -> Send:
    """A server that cannot start says why in one line: Starlette would send the whole trace."""

    async def send_last_line(message: Message) -> None:
        if message["type"] == "lifespan.startup.failed" and not _ERRORS.isEnabledFor(logging.DEBUG):
            last = message.get("message", "").strip().rpartition("\n")[2]
            message = {**message, "message": f"the server cannot start: {last.partition(': ')[2] or last}"}
        await send(message)

    return send_last_line


def _request_id(offered: str | None) -> str:
    """The caller's own id where it is harmless, so that it can follow one request through several services."""
    return offered if offered and _ACCEPTABLE_ID.fullmatch(offered) else secrets.token_hex(8)


def _log(scope: Scope, status: int, seconds: float) -> None:
    facts = {"status": status, "ms": round(seconds * 1000, 2)}
    _ACCESS.info("%s %s", scope["method"], quote(scope["path"]), extra=facts)
