"""What the driver says about this process and its card, through nvidia-ml-py.

PyTorch sees only its own allocator; the CUDA context, kernels and libraries are counted by the driver alone.
Unmeasured so far: written against NVML's documentation and exercised with a stand-in for `pynvml`.
"""

import os
from typing import Any


class DriverReader:
    """Reads one card. Made before CUDA wakes up, so that its first look is without this process's context.

    `library` is the module `pynvml` (NVML API reference, "Device Queries" and "System Queries").
    """

    def __init__(self, library: Any, process_id: int | None = None) -> None:
        self._library = library
        self._process_id = process_id or os.getpid()
        library.nvmlInit()
        handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
        self._handles = {library.nvmlDeviceGetUUID(handle): handle for handle in handles}
        self._first_looks = {uuid: _used_bytes(library, handle) for uuid, handle in self._handles.items()}
        self._uuid = next(iter(self._handles), "")

    def select(self, uuid: str) -> None:
        """Read the card `GPU-<uuid>` from now on.

        Raises:
            LookupError: the driver does not know it (a slice of a card, for one).
        """
        if uuid not in self._handles:
            msg = f"NVML knows no device {uuid}"
            raise LookupError(msg)
        self._uuid = uuid

    def close(self) -> None:
        """Let NVML go."""
        self._library.nvmlShutdown()

    def driver_version(self) -> str:
        """As `nvidia-smi` prints it."""
        return str(self._library.nvmlSystemGetDriverVersion())

    def device_used_bytes(self) -> int:
        """Memory in use on the whole card, by all processes."""
        return _used_bytes(self._library, self._handles[self._uuid])

    def listed_process_bytes(self) -> int | None:
        """What the driver books on this process; None where it does not list it.

        NVML reports host process ids, so a process inside a container does not find itself; under Windows' display
        driver model `usedGpuMemory` is not available; a virtual card answers "not supported".
        """
        try:
            processes = self._library.nvmlDeviceGetComputeRunningProcesses(self._handles[self._uuid])
        except self._library.NVMLError:  # virtual cards and slices do not tell
            return None
        for process in processes:
            if process.pid == self._process_id and process.usedGpuMemory is not None:
                return int(process.usedGpuMemory)
        return None

    def process_bytes(self) -> tuple[int, bool]:
        """This process's device memory, and whether the driver listed it.

        Unlisted, it is what the card's use has grown by since the first look: right while no other process allocates.
        """
        listed = self.listed_process_bytes()
        if listed is not None:
            return listed, True
        return max(0, self.device_used_bytes() - self._first_looks[self._uuid]), False


def _used_bytes(library: Any, handle: Any) -> int:
    return int(library.nvmlDeviceGetMemoryInfo(handle).used)
