"""A program and all that it starts, none of which outlives us, and none of which takes the whole machine."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from planner.probe.processes.host_memory import available_bytes
from planner.units import MIB, format_gib

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h: children whose parent ends become ours
POLL_SECONDS = 0.1
# A look through /proc at every process takes milliseconds, so it is done less often than one at the memory left.
LOOK_SECONDS = 0.5
LOOKS_AT_MEMORY = 5
# A world of 1024 parked ranks with a launcher; a program that starts more of them is not about to train.
MOST_PROCESSES = 1500
# With less than this the kernel soon ends a process of its own choosing.
LEAST_FREE_BYTES = 256 * MIB


@dataclass(frozen=True, slots=True)
class Ending:
    """How the program ended: its exit status, or why we ended it."""

    status: int | None
    why: str = ""


def run_to_its_end(command: Sequence[str], environment: Mapping[str, str], deadline_seconds: float) -> Ending:
    """Run `command`, its output passed on, until it ends, takes too long, or takes more than this machine has.

    Whatever it started is ended with it, daemons too, also when an exception leaves this function (Ctrl-C, SIGTERM).

    Raises:
        OSError: the program cannot be started.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(command, env=dict(environment), start_new_session=True)  # noqa: S603  # theirs to name
    deadline = time.monotonic() + deadline_seconds
    free_bytes = available_bytes()
    try:
        for look in count(1):
            if time.monotonic() >= deadline:
                break
            with suppress(subprocess.TimeoutExpired):
                return Ending(child.wait(LOOK_SECONDS / LOOKS_AT_MEMORY))
            before_bytes, free_bytes = free_bytes, available_bytes()
            why = _too_little_memory(free_bytes, taken_bytes=before_bytes - free_bytes)
            if why or (look % LOOKS_AT_MEMORY == 0 and (why := _too_many_processes())):
                return Ending(None, why)
        return Ending(None, "The program was ended at its deadline, before the steps that matter.")
    finally:
        with _undisturbed():
            end_descendants()
        child.poll()


def _too_many_processes() -> str:
    """One sentence where the program starts more than any training does; else nothing."""
    below = len(_descendants(os.getpid()))
    if below <= MOST_PROCESSES:
        return ""
    return f"The program was ended when it had started {below} processes, more than any training needs."


def _too_little_memory(free_bytes: int, taken_bytes: int) -> str:
    """One sentence where what is left would be gone at the next look, if as much is taken until then; else nothing."""
    if free_bytes - max(0, taken_bytes) >= LEAST_FREE_BYTES:
        return ""
    held = format_gib(sum(map(_resident_bytes, _descendants(os.getpid()))))
    return (
        f"This machine has too little memory: the program's processes held {held} of it and "
        f"{format_gib(free_bytes)} was left, so they were ended; CPU offload, and weights loaded on the CPU, want "
        "a machine that has it."
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals that ask us to end would come again while we do; the watchdog still ends us if we hang."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
    before = [signal.signal(number, lambda *_: None) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def end_descendants(grace_seconds: float = 2.0) -> None:
    """Ask every process below this one to stop, then kill what is left, until nothing is."""
    last_call = time.monotonic() + grace_seconds
    asked: set[int] = set()
    while left := _descendants(os.getpid()):
        for process_id in left:
            if time.monotonic() >= last_call:
                _signal(process_id, signal.SIGKILL)
            elif process_id not in asked:
                asked.add(process_id)
                _signal(process_id, signal.SIGTERM)
        _collect()
        time.sleep(POLL_SECONDS)


def _signal(process_id: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process_id, number)


def _collect() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _resident_bytes(process_id: int) -> int:
    """What a process has in memory (proc(5), statm); a file that several map counts for each."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _descendants(root: int) -> list[int]:
    """Ids of all processes below `root`, as /proc tells; one that has ended and waits to be collected counts."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                # The name in parentheses may hold anything; the parent's id is the second field after it (proc(5)).
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found, level = [], [root]
    while level:
        level = [child for parent in level for child in children.get(parent, ())]
        found += level
    return found
