"""A process that has imported the server and read what its workers read, and forks both for whoever asks: anew that
takes 6 s of a processor, and tests start more than a hundred.

`python -m tests.service.forking FD`: over the socket FD comes a JSON object. What a server is to be set to comes with a
file for what it says; `null` comes with the socket of a template of workers. Back goes a process id, with a descriptor
that refers to that process (pidfd_open(2)).
"""

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

from app.compute import template
from app.compute.processes import KEPT_VARIABLES, Template
from tests.service import web

ROOT = Path(__file__).parents[2]
_LONGEST_MESSAGE = 1 << 20
_REAP_SECONDS = 0.5


class ForkedProcess:
    """As `subprocess.Popen` has it, of a process that is no child of this one. Its exit status is not known: 0."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid, self._descriptor = pid, descriptor
        self.has_ended = False

    def poll(self) -> int | None:
        """Whether it has ended."""
        return 0 if self._ends_within(0) else None

    def wait(self, timeout: float | None = None) -> int:
        if not self._ends_within(timeout):
            raise subprocess.TimeoutExpired("a forked process", timeout or 0)
        return 0

    def _ends_within(self, seconds: float | None) -> bool:
        if not self.has_ended and select.select([self._descriptor], [], [], seconds)[0]:
            os.close(self._descriptor)
            self.has_ended = True
        return self.has_ended

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._descriptor, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Asking:
    """One forker, started by whoever asks first, for all threads of this process."""

    def __init__(self, forker: socket.socket | None = None) -> None:
        self.forker = forker
        self.turn = threading.Lock()

    def ask(self, document: object, descriptor: int) -> ForkedProcess:
        with self.turn:
            self.forker = self.forker or _started()
            socket.send_fds(self.forker, [json.dumps(document).encode() + b"\n"], [descriptor])
            said, descriptors, _, _ = socket.recv_fds(self.forker, 64, 1)
        assert said, "the process that forks servers has ended"
        return ForkedProcess(int(said), descriptors[0])

    async def template(self) -> Template:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.to_thread(self.ask, None, theirs.fileno())
        return await Template.ready(process, ours)


def _started() -> socket.socket:
    ours, theirs = socket.socketpair()
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", "tests.service.forking", str(theirs.fileno())],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    return ours


_ASKING = _Asking()


def forked_server(given: dict[str, Any], said: int) -> ForkedProcess:
    """A server as `tests.service.web` runs it, which writes to the descriptor `said`."""
    return _ASKING.ask({"given": given, "environment": dict(os.environ)}, said)


async def forked_template() -> Template:
    """What `create_app` may make its workers of."""
    return await _ASKING.template()


class _Forker:
    def __init__(self, tests: socket.socket) -> None:
        self.tests = tests
        # Where each server asks for its template.
        self.servers: list[socket.socket] = []
        self.app = template.warm_app()

    def run(self) -> None:
        """Fork until the tests have ended."""
        while True:
            ready, _, _ = select.select([self.tests, *self.servers], [], [], _REAP_SECONDS)
            _reap()
            for asking in ready:
                try:
                    is_there = self._answer_to(asking)
                except OSError:  # whoever asked was killed
                    is_there = False
                if not is_there and asking is self.tests:
                    return
                if not is_there:
                    self.servers.remove(asking)
                    asking.close()

    def _answer_to(self, asking: socket.socket) -> bool:
        """Fork what is asked for; whether anybody asks."""
        message, descriptors = _message(asking)
        if not message:
            return False
        if (document := json.loads(message)) is not None:
            self._fork_server(document, descriptors[0])
        else:
            self._fork_template(asking, descriptors[0])
        return True

    def _fork_server(self, document: dict[str, Any], said: int) -> None:
        ours, theirs = socket.socketpair()
        if (pid := os.fork()) == 0:
            self._leave(theirs.fileno(), said)
            ours.close()
            os.environ.clear()
            os.environ.update(document["environment"])
            os.dup2(said, 1)
            os.dup2(said, 2)
            _end_with(lambda: web.serve(document["given"], _Asking(theirs).template))
        theirs.close()
        self.servers.append(ours)
        _answer(self.tests, pid, said)

    def _fork_template(self, asking: socket.socket, control: int) -> None:
        if (pid := os.fork()) == 0:
            self._leave(control)
            os.setsid()
            for name in os.environ.keys() - set(KEPT_VARIABLES):
                del os.environ[name]
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _end_with(lambda: template.make_workers(self.app, socket.socket(fileno=control)))
        _answer(asking, pid, control)

    def _leave(self, *kept: int) -> None:
        """What the forker holds is not for its children."""
        for mine in (self.tests, *self.servers):
            if mine.fileno() not in kept:
                mine.close()


def _message(asking: socket.socket) -> tuple[bytes, list[int]]:
    message, descriptors, _, _ = socket.recv_fds(asking, _LONGEST_MESSAGE, 1)
    while message and not message.endswith(b"\n"):
        more = asking.recv(_LONGEST_MESSAGE)
        message = message + more if more else b""
    return message, descriptors


def _answer(asking: socket.socket, pid: int, theirs: int) -> None:
    os.close(theirs)
    descriptor = os.pidfd_open(pid)
    socket.send_fds(asking, [str(pid).encode()], [descriptor])
    os.close(descriptor)


def _end_with(work: Any) -> NoReturn:
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    _Forker(socket.socket(fileno=int(sys.argv[1]))).run()
