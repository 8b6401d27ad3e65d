"""Run something in a fork of this process: what it leaves behind in torch, on the card or on the heap goes with it.

Fork before the card wakes up: the child then has one of its own. The kernel ends a child whose parent is gone.
"""

import os
import pickle
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from planner.errors import FitproofError
from planner.probe.processes.parent import signal_at_parents_end

Result = TypeVar("Result")


class ChildFailedError(RuntimeError):
    """The fork ended without a result."""


def in_fork(work: Callable[[], Result]) -> Result:
    """What `work` returns, or raises, in a child process that is gone afterwards, however this ends.

    Raises:
        FitproofError: `work` raised it.
        ChildFailedError: it raised something else, or the child died.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent_id = os.getpid()
    reader, writer = os.pipe()
    child_id = os.fork()
    if child_id == 0:
        os.close(reader)
        _live_with(parent_id)
        _work_and_exit(work, writer)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as pipe:
            text = pipe.read()
    finally:
        with suppress(ProcessLookupError):
            os.kill(child_id, signal.SIGKILL)
        _, status = os.waitpid(child_id, 0)
    if not text:
        msg = f"a fork of the probe ended with {os.waitstatus_to_exitcode(status)} and without a word"
        raise ChildFailedError(msg)
    result, error = pickle.loads(text)  # noqa: S301  # our own child wrote it
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]  # what `work` returned


def _live_with(parent_id: int) -> None:
    """End when the parent does; it may be gone already."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    signal_at_parents_end(signal.SIGKILL)
    if os.getppid() != parent_id:
        os._exit(1)


def _work_and_exit(work: Callable[[], Any], writer: int) -> None:
    """Never returns: the rest of the program is the parent's."""
    try:
        try:
            answer: tuple[Any, BaseException | None] = work(), None
        except FitproofError as error:
            answer = None, error
        except Exception as error:
            answer = None, ChildFailedError(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(answer, pipe)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)
