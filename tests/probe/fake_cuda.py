"""Stand-ins for `torch.cuda`, `torch._C` and `pynvml`, over the allocator model. Fakes, not mocks: they keep state."""

from dataclasses import dataclass, field
from types import SimpleNamespace

from planner.probe.allocator import CachingAllocator, OutOfDeviceMemoryError
from planner.units import GIB, MIB


@dataclass
class FakeDriver:
    """A card whose use is the context plus what torch has reserved; kernels make the context grow."""

    context_bytes: int = 0
    others_bytes: int = 100 * MIB
    cuda: "FakeCuda | None" = None
    lists_process: bool = True
    tells: bool = True
    closed: bool = False

    class NVMLError(Exception):
        pass

    def nvmlInit(self):  # noqa: N802  # pynvml's spelling, here and below
        pass

    def nvmlShutdown(self):  # noqa: N802
        self.closed = True

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, _handle):  # noqa: N802
        return "GPU-1234"

    def nvmlSystemGetDriverVersion(self):  # noqa: N802
        return "580.65"

    def process_bytes(self):
        return self.context_bytes + (self.cuda.allocator.reserved_bytes if self.cuda else 0)

    def nvmlDeviceGetMemoryInfo(self, _handle):  # noqa: N802
        return SimpleNamespace(used=self.others_bytes + self.process_bytes())

    def nvmlDeviceGetComputeRunningProcesses(self, _handle):  # noqa: N802
        if not self.tells:
            raise self.NVMLError("Not Supported")
        process = SimpleNamespace(pid=77, usedGpuMemory=self.process_bytes())
        return [process] if self.lists_process else []


@dataclass
class FakeCuda:
    """`torch.cuda` with one card."""

    allocator: CachingAllocator = field(default_factory=CachingAllocator)
    total_bytes: int = 80 * GIB
    synchronized: int = 0
    observers: list = field(default_factory=list)

    class OutOfMemoryError(RuntimeError):
        pass

    def __post_init__(self):
        self.dumped = []
        self.recording = []
        self.memory = SimpleNamespace(
            _record_memory_history=lambda *args, **kwargs: self.recording.append((args, kwargs)),
            _dump_snapshot=self.dumped.append,
        )

    def init(self):
        pass

    def empty_cache(self):
        self.allocator.empty_cache()

    def synchronize(self, _device):
        self.synchronized += 1

    def reset_peak_memory_stats(self, _device):
        self.allocator.reset_peaks()

    def memory_allocated(self, _device):
        return self.allocator.allocated_bytes

    def memory_reserved(self, _device):
        return self.allocator.reserved_bytes

    def memory_stats(self, _device):
        return {
            "allocated_bytes.all.peak": self.allocator.peak_allocated_bytes,
            "allocated_bytes.all.current": self.allocator.allocated_bytes,
            "reserved_bytes.all.peak": self.allocator.peak_reserved_bytes,
            "reserved_bytes.all.current": self.allocator.reserved_bytes,
        }

    def get_device_properties(self, _device):
        return SimpleNamespace(name="Fake H100", total_memory=self.total_bytes, major=9, minor=0, uuid="1234")

    def set_per_process_memory_fraction(self, fraction, _device):
        self.allocator.capacity_bytes = int(fraction * self.total_bytes)

    def allocate(self, size_bytes):
        """What a tensor does."""
        try:
            return self.allocator.allocate(size_bytes)
        except OutOfDeviceMemoryError:
            for observer in self.observers:
                observer(0, size_bytes, self.allocator.capacity_bytes, self.total_bytes)
            msg = f"CUDA out of memory. Tried to allocate {size_bytes / GIB:.2f} GiB. GPU 0 has a total capacity of ..."
            raise self.OutOfMemoryError(msg) from None


class FakeCore:
    """`torch._C`: holds two cuBLAS workspaces until told to clear them."""

    def __init__(self, cuda, workspaces=2):
        self.cuda = cuda
        self.workspaces = [cuda.allocator.allocate(8_519_680) for _ in range(workspaces)]

    def _cuda_clearCublasWorkspaces(self):  # noqa: N802
        while self.workspaces:
            self.cuda.allocator.free(self.workspaces.pop())

    def _cuda_attach_out_of_memory_observer(self, observer):
        self.cuda.observers.append(observer)
