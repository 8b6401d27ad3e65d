"""One child process: started so that it cannot outlive us, watched against its limits, its ending written down."""

import asyncio
import contextlib
import errno
import json
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from app.engines.procfs import resident_bytes, start_ticks
from planner.address_space import limit_words
from planner.units import MIB, format_gib

LOG_NAME = "output.log"
_ENDING_NAME = "ending.json"
_PROCESS_NAME = "process"
# A probe prints some kilobytes. One that prints this much is broken and would fill the disk.
MOST_LOG_BYTES = 64 * MIB
# A processor fills some gigabytes a second. The kernel's own limits do not help: a dry run of 70B parameters maps
# 173 GB for the 2 GB that it holds (measured), RLIMIT_DATA counts what is mapped, and cgroups are seldom ours to make.
_LOOK_SECONDS = 0.05
_POLITE_SECONDS = 3.0


class Process(Protocol):
    """A child that leads a session of its own: started by this process, or forked by a warm one."""

    @property
    def pid(self) -> int:
        """Its process id, and its process group's."""
        ...

    async def wait(self) -> int:
        """Wait for its end; returns its exit code, negative for a signal."""
        ...


class NoRoomError(OSError):
    """The disk is full. What a child could not write about itself says nothing about the probe."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Wall-clock time, and resident host memory (None for a card's probe, whose driver maps far more)."""

    seconds: float
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended. `reason` is empty for exit code 0."""

    exit_code: int
    reason: str = ""
    stopped: bool = False


class ForkerGoneError(Exception):
    """The parent of a forked child is gone, so its exit status stays unknown."""


async def start(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Process:
    """Start `command` in a session of its own, `request.json` as its input, `output.log` for all it says.

    Must be called on the server's main loop: the kernel's parent-death signal fires when the forking thread ends
    (prctl(2), PR_SET_PDEATHSIG). The output goes to a file because a pipe would die with this process.

    Raises:
        NoRoomError: the largest log might not fit on the disk.
        OSError: the program or its files cannot be had.
    """
    check_room(folder)
    leash = ("setpriv", "--pdeathsig", "KILL", "--") if shutil.which("setpriv") else ()
    with (folder / "request.json").open("rb") as given, (folder / LOG_NAME).open("ab") as said:
        process = await asyncio.create_subprocess_exec(
            *leash, *command, stdin=given, stdout=said, stderr=said, env=dict(environment), start_new_session=True
        )
    note_process(process.pid, folder)
    return process


def check_room(folder: Path) -> None:
    """See that there is room for the largest log.

    Raises:
        NoRoomError: there is not.
    """
    if _lacks_room(folder):
        raise NoRoomError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def note_process(pid: int, folder: Path) -> None:
    """Write down who works in `folder`, for a server that comes after this one."""
    (folder / _PROCESS_NAME).write_text(f"{pid} {start_ticks(pid)}")
    # Where memory runs out, the kernel should end the probe and not the server.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")


async def run_to_end(process: Process, folder: Path, limits: Limits, stop: asyncio.Event) -> Ending:
    """Wait for the child, end it where it breaks a limit or `stop` is set, and write down how it went.

    Cancelled (the server stops), it ends the child and writes nothing: the attempt counts as lost.

    Raises:
        NoRoomError: it failed while the disk was full; nothing is written, and the attempt counts as lost.
        ForkerGoneError: what forked it was killed, and it with that; nothing is written either.
        OSError: the ending cannot be written.
    """
    try:
        verdict, at_once = await _watch(process, folder / LOG_NAME, limits, stop)
        exit_code = await end_process(process, at_once=at_once) if verdict else await process.wait()
    except asyncio.CancelledError:
        await end_process(process)
        raise
    except ForkerGoneError:
        _signal(process, signal.SIGKILL)  # the kernel's own may still be on its way
        raise
    # Grandchildren share the session's process group and must not keep a card busy.
    _signal(process, signal.SIGKILL)
    if exit_code > 0 and verdict is None and _lacks_room(folder):
        raise NoRoomError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    ending = Ending(exit_code, verdict or _describe(exit_code), stopped=stop.is_set())
    if verdict and exit_code == 0:
        ending = Ending(-signal.SIGTERM, verdict, stopped=stop.is_set())
    _write_ending(folder, ending)
    return ending


def read_ending(folder: Path) -> Ending | None:
    """Return the ending on record, None while there is none."""
    try:
        return Ending(**json.loads((folder / _ENDING_NAME).read_text()))
    except FileNotFoundError:
        return None


async def _watch(process: Process, log: Path, limits: Limits, stop: asyncio.Event) -> tuple[str | None, bool]:
    """Why the child must end, None where it has ended; and whether at once, as it would only take more."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + limits.seconds
    exited = asyncio.create_task(process.wait())
    stopping = asyncio.create_task(stop.wait())
    try:
        while True:
            patience = min(_LOOK_SECONDS, max(0.0, ends_at - loop.time()))
            await asyncio.wait((exited, stopping), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                exited.result()  # its exit status is read again; raises if that is unknown
                return None, False
            if stopping.done():
                return "stopped on request", False
            if loop.time() >= ends_at:
                return f"killed after {limits.seconds:.0f} s, the limit for this probe", False
            if (complaint := _over_limit(process.pid, log, limits)) is not None:
                return complaint, True
    finally:
        exited.cancel()
        stopping.cancel()


def end_orphan(folder: Path) -> bool:
    """Kill what a dead server left of this attempt; whether it is still there."""
    try:
        pid, ticks = (folder / _PROCESS_NAME).read_text().split()
    except (OSError, ValueError):
        return False
    if start_ticks(int(pid)) != ticks:
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(int(pid), signal.SIGKILL)
    return True


def _over_limit(pid: int, log: Path, limits: Limits) -> str | None:
    if log.stat().st_size > MOST_LOG_BYTES:
        return f"killed after printing more than {MOST_LOG_BYTES // MIB} MiB"
    used = resident_bytes(pid)
    if limits.memory_bytes is not None and used is not None and used > limits.memory_bytes:
        ceiling = format_gib(limits.memory_bytes)
        return f"killed at {format_gib(used)} of host memory; the ceiling is {ceiling} (FITPROOF_PROBE_MEMORY_BYTES)"
    return None


async def end_process(process: Process, *, at_once: bool = False) -> int:
    """End a child politely, then not, or `at_once`; returns its exit code, which may be there already."""
    _signal(process, signal.SIGKILL if at_once else signal.SIGTERM)
    try:
        async with asyncio.timeout(_POLITE_SECONDS):
            return await process.wait()
    except TimeoutError:
        _signal(process, signal.SIGKILL)
        return await process.wait()


def _lacks_room(folder: Path) -> bool:
    return shutil.disk_usage(folder).free < MOST_LOG_BYTES


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _describe(exit_code: int) -> str:
    if exit_code == 0:
        return ""
    said = f"the probe ended with exit code {exit_code}"
    if exit_code < 0:
        name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else f"signal {-exit_code}"
        said = f"the probe was killed by {name}"
    return ". ".join(filter(None, [said, limit_words()]))


def _write_ending(folder: Path, ending: Ending) -> None:
    draft = folder / f"{_ENDING_NAME}.draft"
    draft.write_text(json.dumps(asdict(ending)))
    draft.replace(folder / _ENDING_NAME)
