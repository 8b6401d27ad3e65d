"""A real warm program and the dry run that it forked, either killed at several moments: nothing of them stays."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from planner.probe.processes import warm
from planner.probe.processes.lifecycle import FOLDER_PREFIX, memory_folder
from tests.probe import helper
from tests.probe.tiny import request

PATIENCE_SECONDS = 60
ENDLESS = ("--on", "dry-run", "--steps", "1000000")
MOMENTS = [("load", 0), ("prepare", 0), ("step", 1), ("step", 3)]


def begin(folder: Path) -> int:
    """Fork a warm program that reads `folder`/asked and writes `folder`/said; its process id."""
    process_id = os.fork()
    if process_id:
        return process_id
    try:
        os.setsid()
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # the helper's pipes, whose ends it waits for
        os.dup2(os.open(folder / "asked", os.O_RDONLY), 0)
        os.dup2(os.open(folder / "said", os.O_WRONLY), 1)
        os.dup2(os.open(folder / "complaints", os.O_WRONLY | os.O_CREAT, 0o600), 2)
        # pytest put others in their place.
        sys.stdin = TextIOWrapper(FileIO(0, closefd=False))
        sys.stdout, sys.stderr = (TextIOWrapper(FileIO(number, "w", closefd=False)) for number in (1, 2))
        warm.serve()
    finally:
        os._exit(0)


@dataclass(frozen=True)
class Warm:
    """A warm program under one endless dry run, and the folder for temporary files that this has."""

    folder: Path
    warm_id: int
    run_id: int
    said: int

    def wait_for(self, stage: str, index: int) -> None:
        """Until the run has reported this stage."""
        wait_until(lambda: (stage, index) in self._stages(), f"the dry run reaches {stage} {index}")

    def _stages(self) -> list[tuple[str, int]]:
        output = self.folder / "output"
        lines = output.read_text(encoding="utf-8").splitlines() if output.exists() else []
        told = [json.loads(line) for line in lines if line.endswith("}")]
        return [(line["stage"], line["index"]) for line in told if "stage" in line]

    def left(self) -> list[str]:
        """Processes and files that are still there."""
        ids = (self.warm_id, self.run_id)
        places = [self.folder / "temporary", *filter(None, [memory_folder()])]
        files = [str(file) for place in places for file in place.glob(f"{FOLDER_PREFIX}{self.run_id}-*")]
        return [f"process {each}" for each in ids if lives(each)] + files


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Warm]:
    for name in ("asked", "said"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "temporary").mkdir()
    (tmp_path / "input").write_text(request().model_dump_json(), encoding="utf-8")
    warm_id = helper.call(begin, tmp_path)
    # Neither waits for the other end, which a program that failed would never open.
    said = os.open(tmp_path / "said", os.O_RDONLY | os.O_NONBLOCK)
    with (tmp_path / "asked").open("r+b", buffering=0) as asked:
        assert hear(said) == {"ready": True}
        job = {"id": "one", "arguments": ENDLESS, "input": str(tmp_path / "input"), "output": str(tmp_path / "output")}
        job["environment"] = {"TMPDIR": str(tmp_path / "temporary"), "PATH": os.environ["PATH"]}
        asked.write(json.dumps(job).encode() + b"\n")
        yield Warm(tmp_path, warm_id, hear(said)["pid"], said)
    os.close(said)


@pytest.mark.parametrize(("stage", "index"), MOMENTS)
def test_a_warm_program_that_is_killed_takes_its_dry_run_and_all_files_with_it(
    started: Warm, stage: str, index: int
) -> None:
    started.wait_for(stage, index)
    os.kill(started.warm_id, signal.SIGKILL)
    wait_until(lambda: not started.left(), "nothing is left")


def test_a_dry_run_that_is_killed_leaves_no_file_and_the_warm_program_says_so(started: Warm) -> None:
    started.wait_for("load", 0)
    os.kill(started.run_id, signal.SIGKILL)
    assert hear(started.said) == {"id": "one", "exit": -signal.SIGKILL}
    wait_until(lambda: started.left() == [f"process {started.warm_id}"], "the dry run's files are gone")


def hear(said: int) -> dict[str, Any]:
    """The next line that the warm program says."""
    line = bytearray()

    def is_whole() -> bool:
        with suppress(BlockingIOError):
            while not line.endswith(b"\n") and (piece := os.read(said, 1)):
                line.extend(piece)
        return line.endswith(b"\n")

    wait_until(is_whole, "the warm program says something")
    heard: dict[str, Any] = json.loads(line)
    return heard


def wait_until(done: Callable[[], bool], what: str) -> None:
    ends_at = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < ends_at, f"not in {PATIENCE_SECONDS} s: {what}"
        time.sleep(0.02)


def lives(process_id: int) -> bool:
    """Whether it runs; one that nobody has waited for yet does not."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in {"Z", "X"}
