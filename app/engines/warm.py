"""A process that imported the stack once and forks a child per dry run (`planner.probe.processes.warm`)."""

import asyncio
import contextlib
import json
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from asyncio.subprocess import Process as Program
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from app.engines.environment import probe_environment
from app.engines.process import LOG_NAME, ForkerGoneError, check_room, note_process

# Importing takes some 6 s of a quiet processor.
_PATIENCE_SECONDS = 120.0
# A warm program holds half a gigabyte; one unused for this long is ended.
IDLE_SECONDS = 600.0


class WarmError(Exception):
    """The warm program does not answer; start the probe the ordinary way."""


@dataclass(slots=True)
class WarmProcess:
    """One forked child. The warm program takes its children along when it ends."""

    pid: int
    exited: "asyncio.Future[int]"

    async def wait(self) -> int:
        """Wait for its end; returns its exit code, negative for a signal.

        Raises:
            ForkerGoneError: the warm program ended before it.
        """
        return await asyncio.shield(self.exited)


@dataclass(slots=True)
class _Asked:
    """A job that was handed over: its process id once it runs, its exit code once it ended."""

    pid: "asyncio.Future[int]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    exited: "asyncio.Future[int]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class WarmProbes:
    """The program, started when it is first needed and again after it ended."""

    def __init__(self, command: Sequence[str], idle_seconds: float = IDLE_SECONDS) -> None:
        self._command = command
        self._idle_seconds = idle_seconds
        self._program: Program | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._asked: dict[str, _Asked] = {}
        self._numbers = count()
        self._idle: asyncio.TimerHandle | None = None
        self._starting = asyncio.Lock()

    async def start(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> WarmProcess:
        """Fork a child for the request in `folder`; as `process.start`, but for its parent.

        Raises:
            WarmError: the program cannot be started or does not answer.
            NoRoomError: the largest log might not fit on the disk.
        """
        check_room(folder)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await self._start(arguments, environment, folder)
        except (OSError, TimeoutError) as error:
            raise WarmError(str(error) or "it does not answer") from error

    async def close(self) -> None:
        """End the program and its children."""
        if self._idle is not None:
            self._idle.cancel()
        program, self._program = self._program, None
        if program is not None:
            with contextlib.suppress(ProcessLookupError):
                program.kill()
            await program.wait()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _start(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> WarmProcess:
        async with self._starting:
            program = await self._running()
        asked, name = _Asked(), str(next(self._numbers))
        self._asked[name] = asked
        job = {
            "id": name,
            "arguments": list(arguments),
            "environment": dict(environment),
            "input": str(folder / "request.json"),
            "output": str(folder / LOG_NAME),
        }
        assert program.stdin is not None  # noqa: S101 (PIPE below)
        program.stdin.write(json.dumps(job).encode() + b"\n")
        await program.stdin.drain()
        pid = await asked.pid
        note_process(pid, folder)
        return WarmProcess(pid, asked.exited)

    async def _running(self) -> Program:
        if self._idle is not None:
            self._idle.cancel()
        if self._program is None:
            leash = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()
            self._ready.clear()
            self._program = await asyncio.create_subprocess_exec(
                *leash, *self._command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=probe_environment(needs_hub=False),
                start_new_session=True,
            )  # fmt: skip
            self._reader = asyncio.create_task(self._read(self._program))
        await self._ready.wait()
        if self._program is None:
            msg = "it ended while it was starting"
            raise WarmError(msg)
        return self._program

    async def _read(self, program: Program) -> None:
        """Hear what the program says until it ends."""
        assert program.stdout is not None  # noqa: S101 (PIPE above)
        async for line in program.stdout:
            self._hear(json.loads(line))
        if self._program is program:
            self._program = None
        self._ready.set()
        for asked in self._asked.values():
            if not asked.pid.done():
                asked.pid.set_exception(WarmError("it ended"))
            elif not asked.exited.done():
                asked.exited.set_exception(ForkerGoneError("the program that forked it was killed"))
        self._asked.clear()
        await program.wait()

    def _hear(self, said: Mapping[str, Any]) -> None:
        if "ready" in said:
            self._ready.set()
        elif "pid" in said:
            self._asked[said["id"]].pid.set_result(said["pid"])
        elif (asked := self._asked.pop(said["id"], None)) is not None:
            asked.exited.set_result(said["exit"])
            if not self._asked:
                self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._let_go)

    def _let_go(self) -> None:
        if not self._asked and self._program is not None and self._program.stdin is not None:
            self._program.stdin.close()
            self._program = None
