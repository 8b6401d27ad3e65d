"""The process that workers are made of: everything imported and read once, then one fork for each worker.

`python -m app.compute.template FD`: over the socket FD, `F` and a socket make a worker that serves it, `K`, a number
and a newline end the worker of that process id. When the server goes, so does everything here.
"""

import asyncio
import contextlib
import gc
import os
import re
import select
import signal
import socket
import sys

from fastapi import FastAPI

from app.compute.answering import answering_app
from app.compute.prefetch import prefetch
from app.compute.worker import work
from app.views.guide import examples, tiers

# How long an ended worker may stay in the process table.
_REAP_SECONDS = 0.5
_LONGEST_READ = 4096
# FastAPI builds a route when it is first compared with an address, and this one is compared with all.
_NOWHERE = "/nowhere"
_KILL = re.compile(rb"K(\d+)\n")


def main(control: socket.socket) -> None:
    """Read everything, then make workers until the server is gone."""
    make_workers(warm_app(), control)


def warm_app() -> FastAPI:
    """The application inside each worker, with all that is read once for all of them."""
    app = answering_app()
    asyncio.run(_warm(app))
    gc.collect()
    gc.freeze()  # collections in a worker would otherwise write to every shared page
    return app


def make_workers(app: FastAPI, control: socket.socket) -> None:
    """Fork a worker with `app` for each socket that comes over `control`, until its other end is gone."""
    control.sendall(b"R")
    alive: set[int] = set()
    unread = b""
    while True:
        ready, _, _ = select.select([control], [], [], _REAP_SECONDS)
        _reap(alive)
        if not ready:
            continue
        # The socket is a stream: several messages may come at once, of which at most one has a descriptor (unix(7)).
        message, descriptors, _, _ = socket.recv_fds(control, _LONGEST_READ, 1)
        if not message:
            break
        unread = _kill_named(unread + message, alive)
        if descriptors:
            with socket.socket(fileno=descriptors[0]) as stream:
                pid = os.fork()
                if pid == 0:
                    control.close()
                    _serve(app, stream)
                alive.add(pid)
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _kill_named(message: bytes, alive: set[int]) -> bytes:
    """End the workers that `message` names and that are not yet reaped, so that the number is still their own; what is
    left of it is the beginning of another name.
    """
    end = 0
    for found in _KILL.finditer(message):
        end = found.end()
        if int(found[1]) in alive:
            os.kill(int(found[1]), signal.SIGKILL)
    return message[end:].lstrip(b"F")


def _serve(app: FastAPI, stream: socket.socket) -> None:
    """The rest of a worker's life."""
    status = 1
    try:
        work(app, stream)
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        status = 0
    finally:
        os._exit(status)


def _reap(alive: set[int]) -> None:
    while alive:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        alive.discard(pid)


async def _warm(app: FastAPI) -> None:
    """Read catalogues, build routes, compile templates and work out the chapter's tables once, for all workers."""
    for path in ("/", "/map", "/compare", "/guide", "/import", "/models", "/gpus", _NOWHERE):
        await prefetch(app, path)
    examples()
    tiers()


if __name__ == "__main__":
    # The terminal's interrupt is for the server, which ends this process by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(socket.socket(fileno=int(sys.argv[1])))
