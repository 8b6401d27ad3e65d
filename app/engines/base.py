"""The one interface behind which probes run. An engine runs a placed attempt; it never queues and never retries."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["cpu", "gpu"]
Phase = Literal["absent", "pending", "running", "succeeded", "failed", "stopped", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A place with room for `slots` attempts at a time.

    `cpu` runs dry runs and CPU probes; `gpu` is one or more equal cards. `card` is the catalogue's id where the card
    was recognised. `total_memory_bytes` is None where the engine does not say.
    """

    id: str
    engine: str
    kind: Kind
    name: str
    slots: int
    card: str | None = None
    total_memory_bytes: int | None = None
    compute_capability: str | None = None
    driver: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One attempt. `ref` is the app's name for it: idempotency key, the engine's own id, and the fence.

    `arguments` follow the engine's own way of calling `python -m planner.probe`; `document` goes to its stdin.
    `timeout_seconds` is the engine's limit, a little more than the deadline the probe holds itself to.
    """

    ref: str
    worker: str
    kind: Kind
    arguments: tuple[str, ...]
    document: str
    timeout_seconds: int
    needs_hub: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """What an engine knows of a ref.

    `absent`: never heard of it, or forgot it. `lost`: what ran it is gone. `failed`: the probe itself ended badly.
    Only the first two are worth another attempt. `exit_code` is the probe's own where it ended by itself.
    `with_server`: it was lost because the server that ran it stopped, which says nothing about the probe.
    """

    phase: Phase
    reason: str = ""
    exit_code: int | None = None
    with_server: bool = False


@dataclass(frozen=True, slots=True)
class LogPage:
    """Whole lines from an offset on, and the offset to go on from."""

    lines: tuple[str, ...]
    next_offset: int
    more: bool = False


class EngineDownError(Exception):
    """The engine cannot be reached or does not let us in: wait, change no state."""


class EngineRefusedError(Exception):
    """The engine will never take this job; the message says why."""


class LogsLostError(Exception):
    """The log went with the machine that wrote it."""


class Engine(Protocol):
    """`submit` is idempotent on `ref`. Everything may raise EngineDownError."""

    name: str
    poll_seconds: float
    changed: asyncio.Event

    async def capacity(self) -> tuple[Worker, ...]:
        """Every worker attached now."""
        ...

    async def submit(self, job: Job) -> None:
        """Start `job`; nothing happens if its ref was started before. May raise EngineRefusedError."""
        ...

    async def status(self, ref: str) -> Status:
        """What became of `ref`."""
        ...

    async def logs(self, ref: str, offset: int) -> LogPage:
        """Read whole lines from `offset` on. May raise LogsLostError."""
        ...

    async def cancel(self, ref: str) -> None:
        """Ask for an end; `status` tells when it came."""
        ...

    async def forget(self, ref: str) -> None:
        """Remove what the engine still keeps of a finished `ref`."""
        ...

    async def leftovers(self) -> Sequence[str]:
        """Refs whose files are on this machine, of any client and time. Never raises EngineDownError."""
        ...

    async def release(self) -> None:
        """Another replica dispatches now: end what only this process can watch."""
        ...

    async def close(self) -> None:
        """The process ends: as `release`, and give back connections."""
        ...
