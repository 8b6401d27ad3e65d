"""The proof: torch's own memory statistics per phase, beside what the driver books on the process.

Every call is named in torch's documentation, "CUDA semantics, Memory management" and `torch.cuda.memory`:
`reset_peak_memory_stats` begins a phase, `memory_stats` ends it, `synchronize` makes the clock honest.
Unmeasured so far: no CUDA device was at hand when this was written; a stand-in module exercises it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pynvml
import torch

from planner.measurement import DeviceReading, PhaseReading
from planner.probe.meters.meter import Tell, tell_nobody
from planner.probe.meters.nvml import DriverReader

# Events kept for `--snapshot`; one step of a 70B model makes fewer.
SNAPSHOT_ENTRIES = 1_000_000
_NOT_LISTED = "process bytes are the growth of the card's use: the driver does not list this process (a container?)"


@dataclass(slots=True)
class _Phase:
    name: str
    peak_allocated_bytes: int = 0
    peak_reserved_bytes: int = 0
    resident_bytes: int = 0
    seconds: float = 0.0

    def reading(self) -> PhaseReading:
        return PhaseReading(
            name=self.name,
            peak_allocated_bytes=self.peak_allocated_bytes,
            peak_reserved_bytes=self.peak_reserved_bytes,
            resident_bytes=self.resident_bytes,
            seconds=round(self.seconds, 4),
        )


@dataclass(slots=True)
class CudaMeter:
    """`cuda` is `torch.cuda`, `core` is `torch._C`, `driver` reads NVML and may be None where NVML is missing.

    `beside` are the meters of the same process's other cards, whose phases are this one's.
    """

    cuda: Any
    core: Any
    driver: DriverReader | None
    device_index: int = 0
    snapshot: Path | None = None
    clock: Callable[[], float] = time.monotonic
    tell: Tell = tell_nobody
    beside: Sequence["CudaMeter"] = ()
    process_bytes: int | None = None
    context_bytes: int | None = None
    cublas_workspace_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    phase: str = ""  # the one under way, or the last one: where an out of memory belongs
    _driver_version: str | None = None
    _phases: dict[str, _Phase] = field(default_factory=dict)
    _current: _Phase | None = None
    _started: float = 0.0

    def __enter__(self) -> Self:
        """Wake CUDA, start from an empty cache and zeroed peaks."""
        if self.driver is not None:
            self._driver_version = self.driver.driver_version()
        self.cuda.init()
        self.cuda.empty_cache()
        self.cuda.reset_peak_memory_stats(self.device_index)
        if self.snapshot is not None:
            self.cuda.memory._record_memory_history(max_entries=SNAPSHOT_ENTRIES, stacks="python")
        for other in self.beside:
            other.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the last phase, write the snapshot (also after out of memory), look for cuBLAS workspaces."""
        for other in self.beside:
            other.__exit__(kind, error, trace)
        self._end_phase()
        self._current = None
        if self.snapshot is not None:
            self.cuda.memory._dump_snapshot(str(self.snapshot))
            self.cuda.memory._record_memory_history(None)
        self.cublas_workspace_bytes = self._drop_cublas_workspaces()
        if self.driver is not None:
            self.driver.close()

    def begin(self, phase: str) -> None:
        """End the current phase and begin `phase`; a name that returns is merged: worst peak, last resident."""
        for other in self.beside:
            other.begin(phase)
        self._end_phase()
        self._current = self._phases.setdefault(phase, _Phase(phase))
        self.phase = phase
        self.cuda.reset_peak_memory_stats(self.device_index)
        self._started = self.clock()

    def readings(self) -> tuple[PhaseReading, ...]:
        """One reading per phase in the order of first appearance."""
        return tuple(phase.reading() for phase in self._phases.values())

    def now(self) -> PhaseReading | None:
        """The phase under way as read so far. `memory_stats` asks the allocator alone; the device runs on."""
        phase = self._current
        if phase is None:
            return None
        stats = self.cuda.memory_stats(self.device_index)
        return PhaseReading(
            name=phase.name,
            peak_allocated_bytes=max(phase.peak_allocated_bytes, stats["allocated_bytes.all.peak"]),
            resident_bytes=stats["allocated_bytes.all.current"],
        )

    def device(self) -> DeviceReading:
        """The card as it describes itself."""
        properties = self.cuda.get_device_properties(self.device_index)
        return DeviceReading(
            name=properties.name,
            total_memory_bytes=properties.total_memory,
            compute_capability=f"{properties.major}.{properties.minor}",
            driver=self._driver_version,
        )

    def _end_phase(self) -> None:
        """Wait for the device, then read; `memory_stats` counts whole blocks, as the replay does."""
        if self._current is None:
            return
        self.cuda.synchronize(self.device_index)
        phase, stats = self._current, self.cuda.memory_stats(self.device_index)
        phase.seconds += self.clock() - self._started
        phase.peak_allocated_bytes = max(phase.peak_allocated_bytes, stats["allocated_bytes.all.peak"])
        phase.peak_reserved_bytes = max(phase.peak_reserved_bytes, stats["reserved_bytes.all.peak"])
        phase.resident_bytes = stats["allocated_bytes.all.current"]
        self._read_driver(stats["reserved_bytes.all.current"])
        self.tell(phase.reading(), True)

    def _read_driver(self, reserved_bytes: int) -> None:
        """Process bytes at their largest; the context is what they exceed the allocator's segments by at that moment.

        Kernels load lazily, so the context grows through the first step: the largest reading is the one to keep.
        """
        if self.driver is None:
            return
        process_bytes, listed = self.driver.process_bytes()
        self.process_bytes = max(self.process_bytes or 0, process_bytes)
        self.context_bytes = max(self.context_bytes or 0, process_bytes - reserved_bytes)
        if not listed and _NOT_LISTED not in self.notes:
            self.notes.append(_NOT_LISTED)

    def _drop_cublas_workspaces(self) -> int:
        """Bytes the cuBLAS workspaces held inside the allocator.

        torch's notes, "cuBLAS workspaces": one per handle and stream, cleared by `_cuda_clearCublasWorkspaces`.
        """
        before_bytes = int(self.cuda.memory_allocated(self.device_index))
        self.core._cuda_clearCublasWorkspaces()
        dropped_bytes = before_bytes - int(self.cuda.memory_allocated(self.device_index))
        self.notes.append(f"cuBLAS workspaces held {dropped_bytes} bytes inside torch's allocator")
        return dropped_bytes


def open_cuda_meter(device_index: int = 0, snapshot: Path | None = None) -> CudaMeter:
    """The meter over the real torch and NVML; without NVML it reads no process bytes and says so."""
    driver: DriverReader | None = None
    notes: list[str] = []
    try:
        driver = DriverReader(pynvml)
        driver.select(f"GPU-{torch.cuda.get_device_properties(device_index).uuid}")
    except (LookupError, pynvml.NVMLError) as error:
        notes.append(f"no driver reading: {error}")
        if driver is not None:
            driver.close()
        driver = None
    return CudaMeter(
        cuda=torch.cuda, core=torch._C, driver=driver, device_index=device_index, snapshot=snapshot, notes=notes
    )


def cuda_versions() -> dict[str, str]:
    """CUDA and cuDNN as torch was built with and found them."""
    versions = {"cuda": str(torch.version.cuda)}
    cudnn: Any = torch.backends.cudnn
    if cudnn.is_available():
        versions["cudnn"] = str(cudnn.version())
    return versions


def tokens_per_second(readings: Sequence[PhaseReading], steady_phases: Sequence[str], tokens: int) -> float | None:
    """Throughput of the steady steps: `tokens` went through all of `steady_phases` together."""
    seconds = sum(read.seconds or 0.0 for read in readings if read.name in steady_phases)
    return round(tokens / seconds, 1) if seconds else None
