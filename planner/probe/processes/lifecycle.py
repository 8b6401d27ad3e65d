"""How a probe ends when it is not left to finish: at its deadline, on SIGTERM, or with its parent.

Nothing stays behind. All three take one road: `Stopped` is raised in the main thread, so that every `with` block
cleans up. It is raised again while it goes unheard (Python drops what is raised inside a finalizer), and a main thread
that is deep in C code may not hear at all: then a watchdog thread removes the temporary folders itself and ends the
process.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Literal

from planner.probe.processes.parent import signal_at_parents_end

Reason = Literal["deadline", "terminated", "parent gone"]

GRACE_SECONDS = 10.0
POLL_SECONDS = 0.5
FOLDER_PREFIX = "fitproof-probe-"
_IN_MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of our own is made in it
# 124 is what timeout(1) answers, 143 what a shell shows for a process ended by SIGTERM.
EXIT_STATUS: dict[Reason, int] = {"deadline": 124, "terminated": 143, "parent gone": 143}
SENTENCES: dict[Reason, str] = {
    "deadline": "The probe was stopped at its deadline.",
    "terminated": "The probe was asked to stop.",
    "parent gone": "The probe stopped because the process that started it is gone.",
}


class Stopped(BaseException):
    """Unwinds the main thread. No `Exception`: nothing that handles errors may swallow it."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(SENTENCES[reason])
        self.reason: Reason = reason


@dataclass(slots=True)
class _Life:
    deadline: float | None
    parent_id: int
    reason: Reason | None = None
    over: threading.Event = field(default_factory=threading.Event)

    def reason_to_stop(self) -> Reason | None:
        if self.reason is None and os.getppid() != self.parent_id:
            self.reason = "parent gone"
        if self.reason is None and self.deadline is not None and time.monotonic() >= self.deadline:
            self.reason = "deadline"
        return self.reason


_folders: set[Path] = set()


@contextmanager
def bounded_life(deadline_seconds: float | None = None, grace_seconds: float = GRACE_SECONDS) -> Iterator[None]:
    """Run the block until it is done, `deadline_seconds` are over, SIGTERM comes or the parent dies. Main thread only.

    Raises:
        Stopped: inside the block; it passes through.
    """
    life = _Life(None if deadline_seconds is None else time.monotonic() + deadline_seconds, os.getppid())

    def on_term(_signal: int, _frame: FrameType | None) -> None:
        life.reason = life.reason_to_stop() or "terminated"
        if not life.over.is_set():
            raise Stopped(life.reason)

    def on_parent_news(signal_number: int, frame: FrameType | None) -> None:
        if life.reason_to_stop() is not None:  # the news may be of a mere thread of the parent
            on_term(signal_number, frame)

    before = signal.signal(signal.SIGTERM, on_term), signal.signal(signal.SIGUSR2, on_parent_news)
    _ask_for_news_of_the_parent()
    watchdog = threading.Thread(target=_watch, args=(life, grace_seconds), name="watchdog", daemon=True)
    watchdog.start()
    try:
        yield
    finally:
        life.over.set()
        watchdog.join()
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGUSR2, before[1])
        _remove_folders()


@contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder, in `parent` or where temporary files go, that is gone afterwards, however this process ends.

    A shell waits for this process to end and then removes it, so that SIGKILL, which nothing can answer, leaves nothing
    either; where both are killed, the next probe of the same user does.
    """
    sweep_orphans()
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-", dir=parent))
    _folders.add(folder)
    try:
        with _removed_after_death(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _folders.discard(folder)


@contextmanager
def _removed_after_death(folder: Path) -> Iterator[None]:
    """The kernel closes the pipe when this process is gone; then the shell's `read` ends."""
    waiting = 'read -r _; rm -rf -- "$0"'
    with subprocess.Popen(  # noqa: S603  # a fixed script; the folder is an argument, no part of it
        ["/bin/sh", "-c", waiting, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    ):  # fmt: skip
        yield


def memory_folder() -> Path | None:
    """Where Linux keeps files in memory, for those whose holes should cost no disk reads; None where there is none."""
    return _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK | os.X_OK) else None


def sweep_orphans() -> None:
    """Remove folders of probes that no longer run, where they are this user's."""
    places = {Path(tempfile.gettempdir()), *filter(None, [memory_folder()])}
    for folder in chain.from_iterable(place.glob(f"{FOLDER_PREFIX}*") for place in places):
        owner = folder.name.removeprefix(FOLDER_PREFIX).split("-")[0]
        with suppress(OSError):
            if owner.isdigit() and folder.stat().st_uid == os.getuid() and not _is_alive(int(owner)):
                shutil.rmtree(folder, ignore_errors=True)


def _watch(life: _Life, grace_seconds: float) -> None:
    """Wake the main thread when it is time, and end the process when it does not come."""
    last_call: float | None = None
    while not life.over.wait(POLL_SECONDS):
        reason = life.reason_to_stop()
        if reason is None:
            continue
        last_call = last_call or time.monotonic() + grace_seconds
        if time.monotonic() < last_call:
            os.kill(os.getpid(), signal.SIGTERM)
            continue
        _remove_folders()
        sys.stderr.write(f"{SENTENCES[reason]}\n")
        sys.stderr.flush()
        os._exit(EXIT_STATUS[reason])


def _ask_for_news_of_the_parent() -> None:
    """On Linux the kernel tells at once when the parent dies; everywhere the watchdog looks twice a second.

    prctl(2): "parent" is the thread that forked us, so the signal also comes when only that thread ends. Hence one of
    our own choosing, whose handler looks whether the parent is really gone.
    """
    signal_at_parents_end(signal.SIGUSR2)


def _remove_folders() -> None:
    for folder in tuple(_folders):
        shutil.rmtree(folder, ignore_errors=True)
        _folders.discard(folder)


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
