"""This machine: a child process per attempt, its log in a file. The kernel ends the child when this process dies."""

import asyncio
import errno
import logging
import re
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.engines.base import EngineDownError, EngineRefusedError, Job, LogPage, LogsLostError, Status, Worker
from app.engines.devices import LocalGpu, local_gpus, missing_probe_packages
from app.engines.environment import probe_environment
from app.engines.logfile import read_page
from app.engines.process import (
    MOST_LOG_BYTES,
    ForkerGoneError,
    Limits,
    Process,
    end_orphan,
    end_process,
    read_ending,
    run_to_end,
    start,
)
from app.engines.warm import WarmError, WarmProbes
from planner.units import MIB

PROBE_PROGRAM = (sys.executable, "-m", "planner.probe")
WARM_PROGRAM = (sys.executable, "-m", "planner.probe.processes.warm")
NAME = "local"
# Shortages that pass: the attempt waits instead of failing.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_PASSING = _FULL | {errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE}
# As `app.jobs` names attempts: sixteen hexadecimal digits and a number.
_REF = re.compile(r"[0-9a-f]{16}-[0-9]{1,2}")
_LOG = logging.getLogger(__name__)

GpuLister = Callable[[], Awaitable[Sequence[LocalGpu]]]
CardNamer = Callable[[str, int | None], str | None]


def no_card_names(_name: str, _total_memory_bytes: int | None) -> str | None:
    """Recognise nothing."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSetup:
    """What the engine depends on. `missing` names packages without which no probe can start here.

    `warm` forks dry runs from a program that has imported its stack; without it each is a program of its own.
    """

    program: Sequence[str] = PROBE_PROGRAM
    warm: Sequence[str] | None = None
    missing: Callable[[], Sequence[str]] = missing_probe_packages
    gpus: GpuLister = local_gpus
    card_of: CardNamer = no_card_names
    cpu_slots: int = 1
    memory_bytes: int | None = None


@dataclass(slots=True)
class _Child:
    """A running attempt: its process, what limits it, and the task that watches."""

    process: Process
    folder: Path
    limits: Limits
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    watcher: asyncio.Task[None] | None = None


class LocalEngine:
    """Slots: one per GPU, and `cpu_slots` for dry runs and CPU probes."""

    name = NAME
    poll_seconds = 0.25

    def __init__(self, folder: Path, setup: LocalSetup | None = None) -> None:
        self.folder = folder
        self.setup = setup or LocalSetup()
        self.changed = asyncio.Event()
        self._running: dict[str, _Child] = {}
        # Why an attempt has no ending on disk, for as long as this process lives.
        self._unwritten: dict[str, str] = {}
        self._workers: tuple[Worker, ...] | None = None
        self._warm = WarmProbes(self.setup.warm) if self.setup.warm else None

    async def capacity(self) -> tuple[Worker, ...]:
        """Every local worker; looked up once, because cards do not come and go while a server runs."""
        if self._workers is None:
            self._workers = await self._look_up()
        return self._workers

    async def submit(self, job: Job) -> None:
        """Start a child process for `job`."""
        folder = self._folder(job.ref)
        if job.ref in self._running or folder.exists():
            return
        environment = probe_environment(job.needs_hub)
        # A dry run or a CPU probe must not touch a card that another probe measures.
        environment["CUDA_VISIBLE_DEVICES"] = job.worker.partition(":")[2] if job.kind == "gpu" else ""
        memory_bytes = self.setup.memory_bytes if job.kind == "cpu" else None
        if memory_bytes is not None:
            environment["FITPROOF_PROBE_MEMORY_BYTES"] = str(memory_bytes)  # planner/probe/ranks/host_memory.py
        try:
            folder.mkdir(parents=True)
            (folder / "request.json").write_text(job.document)
            process = await self._start(job, environment, folder)
        except OSError as error:
            await self.forget(job.ref)
            msg = f"the probe program cannot be started: {error.strerror or error}"
            if error.errno in _FULL:
                msg = f"the disk that holds probe files is full; probes wait until {MOST_LOG_BYTES // MIB} MiB are free"
            raise (EngineDownError if error.errno in _PASSING else EngineRefusedError)(msg) from error
        child = _Child(process, folder, Limits(job.timeout_seconds, memory_bytes))
        self._running[job.ref] = child
        child.watcher = asyncio.create_task(self._watch(job.ref, child))

    async def _start(self, job: Job, environment: Mapping[str, str], folder: Path) -> Process:
        if self._warm is not None and "dry-run" in job.arguments:
            try:
                return await self._warm.start(job.arguments, environment, folder)
            except WarmError as error:
                _LOG.warning("no warm probe program: %s", error, extra={"ref": job.ref})
        return await start([*self.setup.program, *job.arguments], environment, folder)

    async def status(self, ref: str) -> Status:
        """What became of `ref`."""
        if ref in self._running:
            return Status("running")
        folder = self._folder(ref)
        if not folder.exists():
            return Status("absent")
        ending = read_ending(folder)
        if ending is None:
            return self._without_ending(ref, folder)
        if ending.exit_code == 0:
            return Status("succeeded")
        if ending.stopped:
            return Status("stopped", ending.reason)
        return Status("failed", ending.reason, ending.exit_code)

    def _without_ending(self, ref: str, folder: Path) -> Status:
        if end_orphan(folder):
            # Two attempts must not share a card: the next one starts when what the last server left is gone.
            return Status("running")
        if (why := self._unwritten.get(ref)) is not None:
            return Status("lost", why)
        return Status("lost", "the server that ran it stopped", with_server=True)

    async def logs(self, ref: str, offset: int) -> LogPage:
        """Whole lines of the child's output from `offset` on."""
        try:
            return read_page(self._folder(ref) / "output.log", offset, ended=ref not in self._running)
        except FileNotFoundError:
            raise LogsLostError(ref) from None

    async def cancel(self, ref: str) -> None:
        """End the child: politely, then not."""
        if child := self._running.get(ref):
            child.stop.set()

    async def forget(self, ref: str) -> None:
        """Remove the attempt's folder."""
        self._unwritten.pop(ref, None)
        await asyncio.to_thread(shutil.rmtree, self._folder(ref), ignore_errors=True)

    async def leftovers(self) -> Sequence[str]:
        """Every attempt's folder by its ref. What is not named like one is not ours."""
        folders = self.folder.iterdir() if self.folder.exists() else ()
        return [folder.name for folder in folders if _REF.fullmatch(folder.name) and folder.name not in self._running]

    async def release(self) -> None:
        """End every child. Their attempts count as lost, and run again."""
        children = list(self._running.values())
        watchers = [child.watcher for child in children if child.watcher is not None]
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        # A watcher cancelled before its first step has not seen to its child.
        await asyncio.gather(*(end_process(child.process) for child in children), return_exceptions=True)
        if self._warm is not None:
            await self._warm.close()

    async def close(self) -> None:
        """End every child; they run again when the server is back."""
        await self.release()

    async def _watch(self, ref: str, child: "_Child") -> None:
        try:
            await run_to_end(child.process, child.folder, child.limits, child.stop)
        except ForkerGoneError as error:
            self._unwritten[ref] = str(error)
        except OSError as error:
            _LOG.warning("the ending of an attempt could not be written: %s", error, extra={"ref": ref})
            self._unwritten[ref] = f"the disk that holds probe files failed it: {error.strerror}"
        finally:
            self._running.pop(ref, None)
            self.changed.set()

    def _folder(self, ref: str) -> Path:
        return self.folder / ref

    async def _look_up(self) -> tuple[Worker, ...]:
        if self.setup.missing():
            return ()
        cards = [
            Worker(
                id=f"{NAME}:{gpu.uuid}",
                engine=NAME,
                kind="gpu",
                name=gpu.name,
                slots=1,
                card=self.setup.card_of(gpu.name, gpu.total_memory_bytes),
                total_memory_bytes=gpu.total_memory_bytes,
                compute_capability=gpu.compute_capability,
                driver=gpu.driver,
            )
            for gpu in await self.setup.gpus()
        ]
        name, slots = "this machine's processor", self.setup.cpu_slots
        processor = Worker(id=f"{NAME}:cpu", engine=NAME, kind="cpu", name=name, slots=slots)
        return (processor, *cards)
