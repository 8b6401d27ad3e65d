"""This machine's own card, read from its driver: what is free on it now, beside what others hold.

nvidia-ml-py is no dependency: an environment with CUDA torch has it, or it is installed for this command.
"""

import re
from typing import Any

from planner.errors import FieldProblem, UnknownGpuError
from planner.units import format_gib

_HERE = re.compile(r"here(?::(\d{1,2}))?", re.IGNORECASE)


def means_here(name: object) -> bool:
    """Whether `name` is `here`, or `here:1` for the second card."""
    return isinstance(name, str) and _HERE.fullmatch(name.strip()) is not None


def card_here(name: str) -> dict[str, Any]:
    """The card that `name` means, as a request writes one; its memory is what is free now.

    Source: NVML API Reference, nvmlMemory_t: `free` is unallocated device memory, the driver's own share left out.

    Raises:
        UnknownGpuError: no NVML, no driver, or no such card.
    """
    found = _HERE.fullmatch(name.strip())
    index = int(found.group(1) or 0) if found else 0
    try:
        import pynvml
    except ImportError:
        raise _unknown("install nvidia-ml-py, which reads the driver, or name a card such as rtx-4090") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise _unknown(f"no NVIDIA driver answers ({error}); name a card such as rtx-4090") from None
    try:
        return _card(pynvml, index)
    except pynvml.NVMLError as error:
        count = pynvml.nvmlDeviceGetCount()
        raise _unknown(f"the driver has {count} cards, and of number {index} it says: {error}") from None
    finally:
        pynvml.nvmlShutdown()


def _card(nvml: Any, index: int) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    others = len(nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    processes = f", {others} other {'process' if others == 1 else 'processes'}" if others else ""
    held = f"{format_gib(memory.free)} free of {format_gib(memory.total)}{processes}"
    return {
        "name": f"{nvml.nvmlDeviceGetName(handle)} of this machine ({held})",
        "total_memory_bytes": int(memory.free),
        "compute_capability": f"{major}.{minor}",
    }


def _unknown(fix: str) -> UnknownGpuError:
    return UnknownGpuError("This machine's own card cannot be read.", [FieldProblem("gpu", fix)])
