"""The service under load: plans while probes run, and a thousand dry runs each accounted for once."""

import asyncio
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.bench.server import message
from tests.bench.timing import report
from tests.service.fakes.fake_probe import QUICK, SLOW
from tests.service.harness import Web, document

AT_ONCE = 500
QUEUED = 1000
_SENDERS = 16
_LONGEST_SECONDS = 300.0


def run() -> None:
    """Print latencies with and without probes beside, and what became of a thousand probes."""
    with tempfile.TemporaryDirectory() as folder, Web(Path(folder), slots=2, queue_limit=2 * QUEUED) as web:
        _latency(f"{AT_ONCE} plans at once, idle", asyncio.run(_plans(web.port, 0)))
        for mark in range(40):
            web.submit(SLOW, mark=QUEUED + 1 + mark)
        _latency(f"{AT_ONCE} plans at once, probes running", asyncio.run(_plans(web.port, AT_ONCE)))
        _thousand(web)


async def _plans(port: int, first: int) -> tuple[list[float], Counter[int]]:
    """Latencies and statuses of `AT_ONCE` plans asked for at the same moment, each one a new question.

    Over bare connections: an HTTP library here would take several times the server's own time of this machine.
    """
    statuses: Counter[int] = Counter()

    async def ask(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], index: int) -> float:
        reader, writer = connection
        body = {"model": "meta-llama/Llama-3.1-8B", "gpu": "rtx-4090", "training": {"max_length": 512 + first + index}}
        started = time.perf_counter()
        writer.write(message("POST", "/api/v1/plans", json.dumps(body).encode()))
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        writer.close()
        statuses[int(head.split(b" ", 2)[1])] += 1
        return time.perf_counter() - started

    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(AT_ONCE)]
    health = asyncio.create_task(_health(port))
    seconds = await asyncio.gather(*(ask(each, index) for index, each in enumerate(connections)))
    health.cancel()
    return sorted(seconds), statuses


async def _health(port: int) -> None:
    """Ask /healthz on and on over one connection; says how long its answers took once it is cancelled."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    seconds: list[float] = []
    try:
        while True:
            started = time.perf_counter()
            writer.write(message("GET", "/healthz"))
            await reader.readuntil(b"}")
            seconds.append(time.perf_counter() - started)
            await asyncio.sleep(0.01)
    finally:
        writer.close()
        worst = sorted(seconds)[int(len(seconds) * 0.99) - 1] if seconds else 0.0
        report("/healthz meanwhile, p99", f"{1e3 * worst:.0f} ms", "at most 50 ms")


def _latency(name: str, measured: tuple[Sequence[float], Counter[int]]) -> None:
    seconds, statuses = measured
    p99 = seconds[int(len(seconds) * 0.99) - 1]
    median = statistics.median(seconds)
    report(name, f"median {1e3 * median:.0f} ms, p99 {1e3 * p99:.0f} ms", f"statuses {dict(statuses)}")


def _thousand(web: Web) -> None:
    started = time.perf_counter()
    probes = asyncio.run(_queue(str(web.client.base_url)))
    queued = time.perf_counter()
    report(f"{QUEUED} probes queued", f"{queued - started:.1f} s", f"{QUEUED / (queued - started):.0f} per second")
    ends_at = time.monotonic() + _LONGEST_SECONDS
    while _count(web, "queued") + _count(web, "claimed") + _count(web, "running") and time.monotonic() < ends_at:
        time.sleep(0.5)
    report(f"{QUEUED} probes run on 2 slots", f"{time.perf_counter() - queued:.1f} s")
    starts = Counter(line.split()[1] for line in (web.folder / "journal").read_text().splitlines() if "start" in line)
    once = sum(starts[str(mark)] == 1 for mark in range(1, QUEUED + 1))
    states = Counter(web.get(probe)["state"] for probe in probes)
    records = len(web.client.get("/api/v1/evidence").text.splitlines())
    report("started exactly once", f"{once} of {QUEUED}", f"states {dict(states)}, {records} records with the others'")


async def _queue(url: str) -> list[str]:
    marks = iter(range(1, QUEUED + 1))
    probes: list[str] = []

    async def send(client: httpx.AsyncClient) -> None:
        for mark in marks:
            answer = await client.post("/api/v1/probes", json=document(QUICK, mark))
            answer.raise_for_status()
            probes.append(answer.json()["id"])

    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        await asyncio.gather(*(send(client) for _ in range(_SENDERS)))
    return probes


def _count(web: Web, state: str) -> int:
    metric = f'fitproof_probes{{state="{state}"}} '
    lines = web.client.get("/metrics").text.splitlines()
    return int(float(next(line for line in lines if line.startswith(metric)).split()[-1]))
