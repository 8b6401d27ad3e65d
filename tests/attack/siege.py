"""The attack: a server of its own, four hostile clients, one ordinary one, and somebody who asks for its health."""

import asyncio
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.compute.processes import CEILING_BYTES
from planner.units import MIB
from tests.attack.clients import Client, Tally, keep_sending
from tests.attack.requests import Sent, hostile, ordinary

ROOT = Path(__file__).parents[2]
HOSTILE_CLIENTS = 4
_CONNECTIONS_EACH = 4
_LOOK_SECONDS = 1.0
ORDINARY_P99_MS, HEALTH_P99_MS = 300.0, 100.0


@dataclass(slots=True)
class Report:
    """What the attack showed."""

    hostile: Tally = field(default_factory=Tally)
    ordinary: Tally = field(default_factory=Tally)
    health: Tally = field(default_factory=Tally)
    peak_bytes: int = 0
    peak_server_bytes: int = 0
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """All requests."""
        return self.hostile.count + self.ordinary.count + self.health.count

    @property
    def wrong(self) -> list[str]:
        """What may never happen, however slow the machine is."""
        tallies = (self.hostile, self.ordinary, self.health)
        wrong = [line for tally in tallies for line in (*tally.broken, *(f"hung: {sent}" for sent in tally.hung))]
        if self.health.statuses.keys() - {200}:
            wrong.append(f"/healthz answered {dict(self.health.statuses)}")
        if self.peak_bytes > CEILING_BYTES:
            wrong.append(f"memory reached {self.peak_bytes / MIB:.0f} MiB of {CEILING_BYTES / MIB:.0f}")
        return wrong

    @property
    def slow(self) -> list[str]:
        """What a machine that has nothing else to do must keep."""
        limits = (("the ordinary client", self.ordinary, ORDINARY_P99_MS), ("/healthz", self.health, HEALTH_P99_MS))
        return [
            f"p99 of {name}: {tally.quantile_ms(0.99):.0f} ms, {most:.0f} wanted"
            for name, tally, most in limits
            if tally.quantile_ms(0.99) > most
        ]

    def lines(self) -> Iterator[str]:
        """The figures."""
        yield f"{self.count:,} requests in {self.seconds:.0f} s, {self.count / max(self.seconds, 1):.0f} a second"
        for name, tally in (("hostile", self.hostile), ("ordinary", self.ordinary), ("/healthz", self.health)):
            times = f"median {tally.quantile_ms(0.5):.1f} ms, p99 {tally.quantile_ms(0.99):.1f} ms"
            yield f"{name:<9} {tally.count:>8,} requests, {times}, statuses {dict(sorted(tally.statuses.items()))}"
        yield f"memory    {self.peak_bytes / MIB:.0f} MiB at most, of the server {self.peak_server_bytes / MIB:.0f}"


def besiege(folder: Path, most_requests: int, most_seconds: float, seed: int = 14) -> Report:
    """Attack until so many requests were sent, or the time is over."""
    with _serving(folder) as (process, port):
        return asyncio.run(_attack(process.pid, port, most_requests, most_seconds, seed))


async def _attack(pid: int, port: int, most_requests: int, most_seconds: float, seed: int) -> Report:
    """The hostile clients are a process of their own: what it takes them to think of a request is not the server's."""
    report, began = Report(), time.monotonic()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as elsewhere:
        attack = elsewhere.submit(_hostile, port, most_requests, most_seconds, seed)

        def goes_on() -> bool:
            return not attack.done()

        def health(_: random.Random) -> Sent:
            return Sent("GET", "/healthz")

        async def weigh() -> None:
            while goes_on():
                server_bytes, all_bytes = _memory_bytes(pid)
                report.peak_bytes = max(report.peak_bytes, all_bytes)
                report.peak_server_bytes = max(report.peak_server_bytes, server_bytes)
                await asyncio.sleep(_LOOK_SECONDS)

        person = keep_sending(Client(port, "127.0.0.2", report.ordinary), ordinary, random.Random(seed), goes_on, 0.1)
        doctor = keep_sending(Client(port, "127.0.0.3", report.health), health, random.Random(seed), goes_on, 0.1)
        await asyncio.gather(person, doctor, weigh())
        report.hostile = attack.result()
    report.seconds = time.monotonic() - began
    return report


def _hostile(port: int, most_requests: int, most_seconds: float, seed: int) -> Tally:
    """Attack until so many requests were sent, or the time is over."""
    tally, began = Tally(), time.monotonic()

    def goes_on() -> bool:
        return tally.count < most_requests and time.monotonic() - began < most_seconds

    async def attack() -> None:
        await asyncio.gather(
            *(
                keep_sending(
                    Client(port, f"127.0.0.{10 + number}", tally),
                    hostile,
                    random.Random(f"{seed} {number} {connection}"),
                    goes_on,
                )
                for number in range(HOSTILE_CLIENTS)
                for connection in range(_CONNECTIONS_EACH)
            )
        )

    asyncio.run(attack())
    return tally


@contextmanager
def _serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A real server without the hub, without places for probes, and without a rate limit: all of it is computed."""
    environment = os.environ | {
        "FITPROOF_DATA_DIR": str(folder),
        "FITPROOF_CPU_SLOTS": "0",
        "FITPROOF_REQUESTS_PER_MINUTE": "100000000",
        "FITPROOF_LOG_LEVEL": "info",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "app.cli", "serve", "--port", "0"]
    log = folder / "server.log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=stderr, text=True) as server,
    ):
        try:
            yield server, _port_in(log, server)
        finally:
            server.terminate()


def _port_in(log: Path, server: "subprocess.Popen[str]", patience_seconds: float = 60.0) -> int:
    ends_at = time.monotonic() + patience_seconds
    while time.monotonic() < ends_at and server.poll() is None:
        said = log.read_text()
        if "http://127.0.0.1:" in said:
            return int(said.partition("http://127.0.0.1:")[2].split()[0].strip('",)'))
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def _memory_bytes(pid: int) -> tuple[int, int]:
    """Of the server, and of it with its workers; pages that several share count once (PSS, proc(5))."""
    own = _pss_bytes(pid)
    return own, own + sum(map(_pss_bytes, _descendants(pid)))


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, children) for found in (child, *_descendants(child))]


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
