"""An engine in memory whose every word the test decides."""

import asyncio
from dataclasses import dataclass, field

from app.engines.base import EngineDownError, EngineRefusedError, Job, LogPage, LogsLostError, Status, Worker
from app.engines.logfile import page_of

CPU = Worker(id="fake:cpu", engine="fake", kind="cpu", name="a processor", slots=1)
GIB = 1 << 30
H100 = Worker(
    id="fake:h100",
    engine="fake",
    kind="gpu",
    name="NVIDIA H100 80GB HBM3",
    slots=1,
    card="h100-sxm-80gb",
    total_memory_bytes=79 * GIB,
)


@dataclass
class FakeEngine:
    """`states` says what became of a ref, `output` what it printed."""

    workers: tuple[Worker, ...] = (CPU,)
    down: bool = False
    refuses: str = ""
    broken: set[str] = field(default_factory=set)
    jobs: dict[str, Job] = field(default_factory=dict)
    submits: list[str] = field(default_factory=list)
    states: dict[str, Status] = field(default_factory=dict)
    output: dict[str, bytes] = field(default_factory=dict)
    looked: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    lying: list[str] = field(default_factory=list)
    answer: bytes | None = None
    released: int = 0
    name: str = "fake"
    poll_seconds: float = 0.01
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def capacity(self) -> tuple[Worker, ...]:
        self._answer()
        return self.workers

    async def submit(self, job: Job) -> None:
        self._answer(job.ref)
        if self.refuses:
            raise EngineRefusedError(self.refuses)
        self.submits.append(job.ref)
        self.jobs.setdefault(job.ref, job)
        self.states.setdefault(job.ref, Status("succeeded" if self.answer else "running"))
        if self.answer:
            self.output[job.ref] = self.answer
            self.changed.set()

    async def status(self, ref: str) -> Status:
        self._answer(ref)
        self.looked.append(ref)
        return self.states.get(ref, Status("absent"))

    async def logs(self, ref: str, offset: int) -> LogPage:
        self._answer(ref)
        if ref in self.output:
            return page_of(self.output[ref][offset:], offset, ended=False)
        if self.states[ref].phase == "running":
            return LogPage((), offset)
        raise LogsLostError(ref)

    async def cancel(self, ref: str) -> None:
        self._answer(ref)
        self.cancelled.append(ref)

    async def forget(self, ref: str) -> None:
        self._answer(ref)
        self.forgotten.append(ref)

    async def leftovers(self) -> list[str]:
        return self.lying

    async def release(self) -> None:
        self.released += 1

    async def close(self) -> None:
        await self.release()

    def _answer(self, ref: str = "") -> None:
        if self.down:
            msg = "the engine does not answer"
            raise EngineDownError(msg)
        if ref in self.broken:
            msg = "a bug in the engine"
            raise RuntimeError(msg)
