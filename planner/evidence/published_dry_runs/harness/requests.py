"""What a step asks of torch's allocator, recorded once and asked again after another load.

A step's requests do not depend on how loading left the allocator's blocks; what they come to does. Asking the same of
the same allocator costs a hundredth of the step. A step also gives back what loading took: bitsandbytes casts a
layer's bias to the dtype of its input, for good (nn/modules.py, Linear4bit.forward). The name of its tensor tells which
block that is.
"""

from collections.abc import Iterator
from typing import Any

import torch

_STATISTICS = {
    "allocated": torch.cuda.memory_allocated,
    "peak": torch.cuda.max_memory_allocated,
    "reserved": torch.cuda.max_memory_reserved,
    "reset": torch.cuda.reset_peak_memory_stats,
}


class Moments:
    """The moments at which a harness reads the allocator's statistics, and how many requests came before each."""

    def __init__(self, reached: dict[str, int], model: Any) -> None:
        self.reached = reached
        self.passed: list[tuple[int, str, str]] = []
        self._loaded = {tensor.data_ptr(): name for name, tensor in _tensors_of(model)}
        self._before = _requests_so_far()
        torch.cuda.memory._record_memory_history(enabled="all", context=None, max_entries=10**8)

    def read(self, statistic: str, name: str) -> None:
        """`allocated`, `peak` or `reserved` bytes, kept under a name."""
        self.passed.append((_requests_so_far() - self._before, statistic, name))
        self.reached[name] = _STATISTICS[statistic]()

    def reset_peaks(self) -> None:
        """Peaks begin at what is allocated now."""
        self.passed.append((_requests_so_far() - self._before, "reset", ""))
        torch.cuda.reset_peak_memory_stats()

    def requests(self) -> dict[str, Any]:
        """Everything that was asked since the start, as `ask_again` takes it."""
        trace = torch.cuda.memory._snapshot()["device_traces"][torch.cuda.current_device()]
        asked = [
            (event["action"] != "free_requested", event.get("addr", 0), event["size"])
            for event in trace
            if event["action"] in ("alloc", "free_requested", "oom")
        ]
        return {"asked": asked, "moments": self.passed, "loaded": self._loaded}


def ask_again(requests: dict[str, Any], reached: dict[str, int], model: Any) -> None:
    """Ask the same of this process's allocator and read it at the same moments.

    Raises torch's OutOfMemoryError, and LookupError where the steps gave back what no tensor of the model had.
    """
    held: dict[int, int] = {}
    loaded = dict(_tensors_of(model))
    done = 0
    asked = requests["asked"]
    for position, statistic, name in [*requests["moments"], (len(asked), "", "")]:
        for take, address, size in asked[done:position]:
            if take:
                held[address] = torch.cuda.caching_allocator_alloc(size)
            elif address in held:
                torch.cuda.caching_allocator_delete(held.pop(address))
            else:
                tensor = loaded[requests["loaded"][address]]
                tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        done = position
        if name:
            reached[name] = _STATISTICS[statistic]()
        elif statistic:
            torch.cuda.reset_peak_memory_stats()


def _tensors_of(model: Any) -> Iterator[tuple[str, Any]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _requests_so_far() -> int:
    counts = torch.cuda.memory_stats()
    return int(counts["allocation.all.allocated"] + counts["allocation.all.freed"])
