"""One worker: answers requests one after another until it is told to end or has grown; where a request brings a model
of its own, that request alone.

Whatever a caller brought is forgotten with the process, so no cache ever holds it; and as caches grow the process, a
bound on its growth bounds all of them by bytes.
"""

import asyncio
import marshal
import os
import pickle
import resource
import socket
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import FastAPI

from app.compute.frames import framed, receive_frame
from app.compute.memory import held_bytes
from app.compute.questions import Facts, MissingFactError
from app.logs import set_request_id
from planner.units import MIB

_Found = TypeVar("_Found")
# A worker ends once it has grown by this much: one that answers those who ask much beside others, and any other, which
# lives longer, as what it remembers is asked for again. A model's first plan leaves a third of a MiB, its first map
# another 0.8: the latter remembers some sixteen models.
_LOW_GROWN_BYTES = 4 * MIB
GROWN_BYTES = 16 * MIB
# What one request may take at most. The catalogue's largest take 12 MiB, a padded one of 1,024 layers 30.
REQUEST_BYTES = 48 * MIB
# The kernel's own limit for an orphaned worker, in processor seconds of its whole life.
_LIFE_SECONDS = 120


class _InlineExecutor(ThreadPoolExecutor):
    """A worker answers one request at a time, so threads would only wait for each other."""

    def submit(self, fn: Callable[..., _Found], /, *args: Any, **kwargs: Any) -> Future[_Found]:
        future: Future[_Found] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except StopIteration as error:  # asyncio's futures refuse it
            future.set_exception(RuntimeError(f"an iterator ended: {error}"))
        except BaseException as error:
            future.set_exception(error)
        return future


def work(app: FastAPI, stream: socket.socket) -> None:
    """Answer what comes over `stream`, until the other end closes it or the worker should make room for a fresh one."""
    _limit_memory()
    loop = asyncio.new_event_loop()
    loop.set_default_executor(_InlineExecutor(1))
    started_bytes, niceness = held_bytes(), os.nice(0)
    stream.sendall(framed(marshal.dumps(os.getpid())))
    while (message := receive_frame(stream)) is not None:
        facts, request = pickle.loads(message)  # noqa: S301 (the server is at the other end of a socket without a name)
        reply = loop.run_until_complete(_reply(app, facts, request))
        del message, request
        grown_bytes = _LOW_GROWN_BYTES if os.nice(0) > niceness else GROWN_BYTES
        ends = facts.alone or reply[0] == "memory" or held_bytes() - started_bytes > grown_bytes
        ends = ends or time.process_time() > _LIFE_SECONDS / 2
        stream.sendall(framed(marshal.dumps((ends, reply))))
        if ends:
            return


async def _reply(app: FastAPI, facts: Facts, request: dict[str, Any]) -> tuple[Any, ...]:
    """("answer", status, headers, body), ("asks", question), ("memory",) or ("failed", trace)."""
    app.state.facts = facts
    set_request_id(request["id"])
    start: dict[str, Any] = {}
    parts: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": request["body"], "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            parts.append(message.get("body", b""))

    try:
        await app({**request["scope"], "app": app, "state": {}}, receive, send)
    except MissingFactError as missing:
        return ("asks", missing.question)
    except MemoryError:
        return ("memory",)
    except Exception:  # the server answers for it and logs it
        return ("failed", traceback.format_exc())
    return ("answer", start["status"], [tuple(pair) for pair in start["headers"]], b"".join(parts))


def _limit_memory() -> None:
    """More than a request may take is refused by the kernel, and becomes a MemoryError here."""
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as statm:
            data_bytes = int(statm.read().split()[5]) * resource.getpagesize()
        ceiling = data_bytes + GROWN_BYTES + REQUEST_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (ceiling, ceiling))
    resource.setrlimit(resource.RLIMIT_CPU, (_LIFE_SECONDS, _LIFE_SECONDS))
