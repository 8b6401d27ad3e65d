"""The server's end of the processes: one template, and the workers made of it."""

import asyncio
import contextlib
import marshal
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from app.compute.frames import exchange
from app.compute.memory import share_bytes
from planner.units import MIB

# What a worker's interpreter needs to start as ours did. Nothing that holds a secret, nothing that moves an answer.
KEPT_VARIABLES = (
    "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "TZ", "VIRTUAL_ENV", "XDG_CACHE_HOME",
)  # fmt: skip
_START_SECONDS = 60.0
# What the server and the workers of two quick places may hold together, pages that they share counted once.
CEILING_BYTES = 250 * MIB
# What all may grow by between two looks, new workers apart, which are counted when they are made: 9 MiB were seen
# (make attack).
_BETWEEN_LOOKS_BYTES = 25 * MIB
# One more worker that computes holds as much, pages that it shares counted in parts (make attack).
_WORKER_BYTES = 40 * MIB
# What one more worker soon holds, the middle of 24 to 35 MiB (make attack).
START_BYTES = 30 * MIB
# Long requests, and those of heavy clients, yield the processors to others: a tenth of a usual process's weight
# (sched(7), nice 10).
_LOW_NICENESS = 10


class NoWorkersError(Exception):
    """The template cannot be started."""


class Template:
    """A running template process."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process, self._control = process, control
        self._is_ready = False

    @classmethod
    async def started(cls) -> Self:
        """Start one and wait until it has read everything.

        Raises:
            NoWorkersError: it ended instead, or took too long.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "app.compute.template", str(theirs.fileno())]
            environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
            environment["PYTHONPATH"] = os.pathsep.join([_root(), *filter(None, [environment.get("PYTHONPATH")])])
            process = subprocess.Popen(  # noqa: S603 (a fork and exec; it does not wait)
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return await cls.ready(process, ours)

    @classmethod
    async def ready(cls, process: subprocess.Popen[bytes], control: socket.socket) -> Self:
        """Wait until `process`, which was started with the other end of `control`, has read everything.

        Raises:
            NoWorkersError: it ended instead, or took too long.
        """
        control.setblocking(False)
        template = cls(process, control)
        try:
            async with asyncio.timeout(_START_SECONDS):
                said = await asyncio.get_running_loop().sock_recv(control, 1)
        except BaseException:
            template.close()
            raise
        if said != b"R":
            template.close()
            raise NoWorkersError("the template of the workers ended while it was starting")
        template._is_ready = True
        return template

    def share_bytes(self) -> int:
        """What it holds, pages that it shares counted in parts."""
        return share_bytes(self._process.pid)

    @property
    def is_alive(self) -> bool:
        """Whether it can make workers."""
        return self._process.poll() is None

    async def worker(self, *, low: bool) -> "Worker":
        """Make one, of `low` priority.

        Raises:
            NoWorkersError: the template is gone.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            try:
                socket.send_fds(self._control, [b"F"], [theirs.fileno()])
            except OSError as error:
                ours.close()
                raise NoWorkersError("the template of the workers is gone") from error
        try:
            pid = int(marshal.loads(await exchange(ours, None)))  # noqa: S302 (our own process, our own socket)
        except OSError as error:
            ours.close()
            raise NoWorkersError("a worker ended while it was starting") from error
        except BaseException:
            _close(ours)
            raise
        worker = Worker(self, pid, ours)
        if low:
            worker.slow_down()
        return worker

    def kill(self, pid: int) -> None:
        """End one worker at once."""
        with contextlib.suppress(OSError):
            self._control.send(b"K%d\n" % pid)

    def close(self) -> None:
        """End it and all its workers."""
        self._control.close()
        if not self._is_ready:
            self._process.kill()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Worker:
    """One worker, which answers one request at a time."""

    def __init__(self, template: Template, pid: int, stream: socket.socket) -> None:
        self.pid = pid
        self.ends = False
        # Whether it has a low priority, which cannot be taken back.
        self.is_low = False
        self._template, self._stream = template, stream

    async def ask(self, message: bytes) -> tuple[Any, ...]:
        """Send one request and wait for its reply; ("gone",) where the worker ended over it."""
        try:
            self.ends, reply = marshal.loads(await exchange(self._stream, message))  # noqa: S302 (as above)
        except OSError:
            self.ends = True
            return ("gone",)
        return tuple(reply)

    def processor_seconds(self) -> float | None:
        """What it has computed in its life; None where the system does not say."""
        try:
            with open(f"/proc/{self.pid}/schedstat", encoding="ascii") as stat:
                return int(stat.read().split()[0]) / 1e9
        except OSError:
            return None

    def share_bytes(self) -> int:
        """What it holds, pages that it shares counted in parts."""
        return share_bytes(self.pid)

    def slow_down(self) -> None:
        """Let others go first from here on."""
        self.is_low = True
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, self.pid, _LOW_NICENESS)

    def kill(self) -> None:
        """End it, whatever it is doing."""
        self.ends = True
        self._template.kill(self.pid)
        _close(self._stream)

    def dismiss(self) -> None:
        """Let it end; it is idle."""
        self._stream.close()


def room_bytes(places: int) -> int:
    """What server, template and the workers of a pool of `places` may be seen to hold together."""
    return CEILING_BYTES - _BETWEEN_LOOKS_BYTES + max(0, places - 2) * _WORKER_BYTES


def _close(stream: socket.socket) -> None:
    """Close a socket that a task may just have waited for: its number may soon be another's."""
    loop = asyncio.get_running_loop()
    loop.remove_reader(stream)
    loop.remove_writer(stream)
    stream.close()


def _root() -> str:
    """The folder that `app` is imported from."""
    return str(Path(__file__).parents[2])
