"""A real Ray cluster on loopback: a head without cards and two nodes with one logical A100 each, token on.

Every quirk below was measured on Ray 2.60.0. Processes are started with `--block` and ended by their own ids:
`ray stop` would end every Ray process of the machine.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.service.harness import free_port, is_running, wait_until

# Its own environment: `make test-ray` lays it.
RAY = Path(os.environ.get("FITPROOF_TEST_RAY", Path(__file__).parents[2] / ".venv-ray" / "bin" / "ray"))
HEAD_ADDRESS = "127.0.0.2"
NODE_ADDRESSES = ("127.0.0.3", "127.0.0.4")


class Cluster:
    """Started one part after another: two nodes that start together may hang."""

    def __init__(self) -> None:
        # Sockets lie in this folder, and a socket's path has at most 107 characters (unix(7)).
        self.folder = Path(tempfile.mkdtemp(prefix="fpray"))
        self.token = secrets.token_hex(16)
        self.port, self.dashboard = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.dashboard}"
        self.client = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=30)
        self.parts: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        self.start_head()
        for index in range(len(NODE_ADDRESSES)):
            self.start_node(index)

    def start_head(self) -> None:
        # Else "already running", because of a raylet that outlived the last head.
        (self.folder / "ray_current_cluster").unlink(missing_ok=True)
        self._start(
            "head",
            "--head",
            f"--port={self.port}",
            f"--node-ip-address={HEAD_ADDRESS}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self.dashboard}",
            f"--temp-dir={self.folder}",
            "--num-cpus=1",
            "--num-gpus=0",
        )
        wait_until(self.answers, 60, self.log)

    def start_node(self, index: int) -> None:
        first = 20000 + 1000 * index
        self._start(
            f"node{index}",
            f"--address={HEAD_ADDRESS}:{self.port}",
            f"--node-ip-address={NODE_ADDRESSES[index]}",
            f"--dashboard-agent-listen-port={free_port()}",
            f"--min-worker-port={first}",
            f"--max-worker-port={first + 999}",
            "--num-cpus=1",
            "--num-gpus=1",
            "--resources=" + json.dumps({"accelerator_type:A100": 1}),
        )
        wait_until(lambda: self.has_node(NODE_ADDRESSES[index]), 60, self.log)

    def answers(self) -> bool:
        try:
            return self.client.get("/api/jobs/").status_code == 200
        except httpx.TransportError:
            return False

    def has_node(self, address: str) -> bool:
        answer = self.client.get("/api/v0/nodes", params={"detail": 1, "limit": 100})
        nodes = answer.json()["data"]["result"]["result"] if answer.status_code == 200 else []
        return any((node["node_ip"], node["state"]) == (address, "ALIVE") for node in nodes)

    def kill(self, part: str) -> None:
        """kill -9 everything of one part, its daemons first."""
        process = self.parts.pop(part)
        for pid in [*descendants(process.pid), process.pid]:
            kill_quietly(pid)
        process.wait()

    def kill_raylet(self, index: int) -> None:
        """kill -9 the daemon of one node alone, as an out-of-memory killer would."""
        for pid in descendants(self.parts[f"node{index}"].pid):
            if Path(f"/proc/{pid}/comm").read_text().strip() == "raylet":
                kill_quietly(pid)

    def stop(self) -> None:
        self.client.close()
        for part in list(self.parts):
            self.kill(part)
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        return "\n".join(path.read_text()[-1500:] for path in self.folder.glob("*.out"))

    def _start(self, part: str, *arguments: str) -> None:
        environment = {
            "PATH": f"{RAY.parent}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            # A dead node is noticed after 4 s instead of 20.
            "RAY_health_check_initial_delay_ms": "1000",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "1000",
            "RAY_health_check_failure_threshold": "3",
        }
        output = (self.folder / f"{part}.out").open("ab")
        command = [str(RAY), "start", "--block", "--disable-usage-stats", *arguments]
        self.parts[part] = subprocess.Popen(
            command, env=environment, cwd=self.folder, stdout=output, stderr=output, start_new_session=True
        )
        output.close()


def running_cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def descendants(pid: int) -> list[int]:
    """Children and their children, the deepest last."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(child) for child in children.read_text().split()] if children.exists() else []
    return [each for child in found for each in (child, *descendants(child))]


def kill_quietly(pid: int) -> None:
    if is_running(pid):
        os.kill(pid, signal.SIGKILL)
        ends_at = time.monotonic() + 5
        while is_running(pid) and time.monotonic() < ends_at:
            time.sleep(0.02)
