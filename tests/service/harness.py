"""Real server processes for the crash tests: started, watched through HTTP, killed without mercy."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from tests.service.fakes.fake_probe import QUICK
from tests.service.forking import ForkedProcess, forked_server

ROOT = Path(__file__).parents[2]
FINAL = {"succeeded", "failed", "cancelled"}


def document(behaviour: int = QUICK, mark: int = 1, **more: Any) -> dict[str, Any]:
    """A probe of a small catalogue model. `mark` finds it in the fake probe's journal."""
    return {
        "model": "Qwen/Qwen2.5-0.5B",
        "gpu": "rtx-4090",
        "instrument": "dry-run",
        "training": {"max_length": behaviour},
        "lora": {"lora_alpha": mark},
    } | more


class Web:
    """One server process on a folder and a database. A second one on the same folder takes up where it was."""

    def __init__(
        self,
        folder: Path,
        *,
        slots: int = 1,
        ray: dict[str, str] | None = None,
        port: int | None = None,
        wrapped_in: Sequence[str] = (),
        dies_at_submit: bool = False,
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.instrument = "cuda" if ray else "dry-run"
        given = {"data_dir": str(folder), "port": self.port, "slots": slots, "settings": settings}
        given |= {"dies_at_submit": dies_at_submit}
        given |= {"ray": ray} if ray else {}
        self.said = folder.with_name(f"{folder.name}.stderr")
        self.errors = self.said.open("ab")
        self.process: subprocess.Popen[bytes] | ForkedProcess
        if wrapped_in:
            command = [*wrapped_in, sys.executable, "-m", "tests.service.web", json.dumps(given)]
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=self.errors, stdout=self.errors)
        else:
            self.process = forked_server(given, self.errors.fileno())
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def __enter__(self) -> Self:
        wait_until(self.has_worker, 30, self.complain)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.errors.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    def has_worker(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(self.complain())
        try:
            return bool(self.client.get("/api/v1/workers").json()["items"])
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def submit(self, behaviour: int = QUICK, mark: int = 1, headers: dict[str, str] | None = None) -> str:
        body = document(behaviour, mark, instrument=self.instrument)
        answer = self.client.post("/api/v1/probes", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def get(self, probe: str) -> dict[str, Any]:
        answer = self.client.get(f"/api/v1/probes/{probe}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def events(self, probe: str, after: int = 0) -> list[dict[str, Any]]:
        """Every event until the stream ends."""
        events: list[dict[str, Any]] = []
        url, headers = f"/api/v1/probes/{probe}/events", {"Last-Event-ID": str(after)}
        with self.client.stream("GET", url, headers=headers) as stream:
            current: dict[str, Any] = {}
            for line in stream.iter_lines():
                name, _, value = line.partition(": ")
                if name == "data":
                    current["data"] = json.loads(value)
                elif name in {"id", "event"}:
                    current[name] = value
                elif not line and "id" in current:
                    events.append(current)
                    current = {}
        return events

    def wait_for(self, probe: str, states: set[str] = FINAL, seconds: float = 25) -> dict[str, Any]:
        def complain() -> str:
            return f"{self.get(probe)} {self.complain()}"

        wait_until(lambda: self.get(probe)["state"] in states, seconds, complain)
        return self.get(probe)

    def complain(self) -> str:
        return self.said.read_text()[-3000:]


def journal(folder: Path, word: str, mark: int) -> list[int]:
    """Process ids of the fake probes with `mark` that started or came to their end."""
    book = folder / "journal"
    lines = [line.split() for line in book.read_text().splitlines()] if book.exists() else []
    return [int(pid) for what, which, pid in lines if what == word and which == str(mark)]


def wait_until(holds: Callable[[], bool], seconds: float, complain: Callable[[], str] = str) -> None:
    ends_at = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends_at:
            raise AssertionError(f"not within {seconds} s: {complain()}")
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
