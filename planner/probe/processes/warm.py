"""`python -m planner.probe.processes.warm`: a process that has imported the stack, and forks a child for each dry run.

Lines of JSON on stdin ask, lines on stdout answer. A job names the files that are its input and its output:

    {"id": "…", "arguments": ["--on", "dry-run"], "environment": {}, "input": "request.json", "output": "output.log"}
    {"ready": true}
    {"id": "…", "pid": 4711}
    {"id": "…", "exit": 0}

Each child leads a session of its own, sees one job and ends with it; exit is negative for a signal. When stdin ends,
every child is killed and so is this process; the kernel ends the children if this process is killed.
"""

import gc
import json
import os
import selectors
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from planner.probe.__main__ import EXIT_FAILED, be_quiet, main
from planner.probe.card.preload import CARDS_VARIABLE
from planner.probe.devices.virtual_card import insert_any_card
from planner.probe.processes.parent import signal_at_parents_end

# What the stand-ins that are loaded say of themselves.
_OF_THE_CARD = (CARDS_VARIABLE, "TRITON_LIBCUDA_PATH")
_MOST_LINE_BYTES = 1 << 20


@dataclass(slots=True)
class _Server:
    """The jobs under way, by process id."""

    running: dict[int, str] = field(default_factory=dict)

    def start(self, job: dict[str, Any]) -> None:
        process_id = os.fork()
        if process_id == 0:
            _become(job)
        self.running[process_id] = job["id"]
        _tell({"id": job["id"], "pid": process_id})

    def reap(self) -> None:
        """Tell of every child that has ended."""
        while self.running:
            process_id, status = os.waitpid(-1, os.WNOHANG)
            if process_id == 0:
                return
            if process_id in self.running:
                _tell({"id": self.running.pop(process_id), "exit": os.waitstatus_to_exitcode(status)})

    def end(self) -> None:
        """Kill what still runs, with its own children."""
        for process_id in self.running:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process_id, signal.SIGKILL)


def _become(job: dict[str, Any]) -> None:
    """The child: one job, then the end."""
    status = EXIT_FAILED
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        parent_id = os.getppid()
        signal_at_parents_end(signal.SIGKILL)
        if os.getppid() != parent_id:
            return
        _take_over(job["input"], 0, os.O_RDONLY)
        _take_over(job["output"], 1, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(1, 2)
        cards = {name: os.environ[name] for name in _OF_THE_CARD if name in os.environ}
        os.environ.clear()
        os.environ.update(job["environment"] | cards)
        status = main(job["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
    except SystemExit as leaving:  # argparse
        status = leaving.code if isinstance(leaving.code, int) else EXIT_FAILED
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _take_over(path: str, descriptor: int, flags: int) -> None:
    opened = os.open(path, flags, 0o600)
    os.dup2(opened, descriptor)
    os.close(opened)


def _tell(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _warm_up() -> None:
    """Import what a run imports, on a card that each run changes for its own."""
    be_quiet()
    insert_any_card()
    gc.collect()
    gc.freeze()


def serve() -> int:
    """Until stdin ends."""
    _warm_up()
    server = _Server()
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    _tell({"ready": True})
    heard = b""
    try:
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if woken in ready:
                os.read(woken, 4096)
                server.reap()
            if 0 in ready:
                piece = os.read(0, _MOST_LINE_BYTES)
                if not piece:
                    return 0
                *lines, heard = (heard + piece).split(b"\n")
                for line in lines:
                    server.start(json.loads(line))
    finally:
        server.end()


if __name__ == "__main__":
    sys.exit(serve())
