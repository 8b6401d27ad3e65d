"""A program and all that it starts, none of which outlives us."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h: children whose parent ends become ours
POLL_SECONDS = 0.1


def run_to_its_end(command: Sequence[str], environment: Mapping[str, str], deadline_seconds: float) -> int | None:
    """Run `command`, its output passed on; returns its exit status, or None if the deadline ended it.

    Whatever it started is ended with it, daemons too, also when an exception leaves this function (Ctrl-C, SIGTERM).

    Raises:
        OSError: the program cannot be started.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(command, env=dict(environment), start_new_session=True)  # noqa: S603  # theirs to name
    try:
        return child.wait(deadline_seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        end_descendants()
        child.poll()


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


def _descendants(root: int) -> list[int]:
    """Ids of all processes below `root`, as /proc tells; one that has ended and waits to be collected counts."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                # The name in parentheses may hold anything; the parent's id is the second field after it (proc(5)).
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found, level = [], [root]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        found += level
    return found
