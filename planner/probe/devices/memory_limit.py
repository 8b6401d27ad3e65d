"""Playing a smaller card: a cap on the allocator, out of memory as an answer, and the search for the smallest cap.

`--memory-limit` names what torch would call the card's total memory. That card spends part of it on a CUDA context, so
the allocator is allowed the rest, by `torch.cuda.set_per_process_memory_fraction`. Managed memory, where bitsandbytes
keeps the larger states of a paged optimizer, is outside torch's allocator and so outside the cap, as it is outside a
card's memory.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from planner.errors import FieldProblem, InvalidRequestError
from planner.units import MIB, ceil_div, format_gib, parse_size_bytes

# `--find-smallest` repeats the whole run, so it is content with this.
DEVICE_STEP_BYTES = 64 * MIB

# c10/cuda/CUDACachingAllocator.cpp, "CUDA out of memory. Tried to allocate 1.69 GiB."
_TRIED = re.compile(r"Tried to allocate ([\d.]+ (?:[KMG]i)?B)")
# What those say that ask the driver for memory beside torch's allocator: kernels that load, cuBLAS and cuDNN handles
# (torch.AcceleratorError and plain RuntimeErrors; c10/cuda/CUDAException.h, aten/src/ATen/cuda/Exceptions.h).
_DRIVER_REFUSED = re.compile(
    r"CUDA error: out of memory|cudaErrorMemoryAllocation|CU(?:BLAS|DNN|SOLVER|SPARSE)_STATUS_ALLOC_FAILED"
)


@dataclass(slots=True)
class MemoryLimit:
    """`limit_bytes` is the card that is played, `context_bytes` what its CUDA context takes away."""

    limit_bytes: int
    context_bytes: int

    @property
    def allocator_bytes(self) -> int:
        """What is left for torch's allocator.

        Raises:
            InvalidRequestError: nothing is left.
        """
        if self.limit_bytes <= self.context_bytes:
            fix = f"name more than the {format_gib(self.context_bytes)} that a CUDA context takes"
            raise InvalidRequestError("The memory limit leaves no room.", [FieldProblem("--memory-limit", fix)])
        return self.limit_bytes - self.context_bytes


def cap_cuda_allocator(limit: MemoryLimit, cuda: Any, device_index: int = 0) -> None:
    """Hold torch's allocator to `limit`; it then refuses before the driver does.

    Raises:
        InvalidRequestError: the card at hand is smaller than the card to play.
    """
    total_bytes = int(cuda.get_device_properties(device_index).total_memory)
    if limit.limit_bytes > total_bytes:
        fix = f"name at most {format_gib(total_bytes)}, which is what this card has"
        raise InvalidRequestError("This card cannot play a larger one.", [FieldProblem("--memory-limit", fix)])
    cuda.set_per_process_memory_fraction(limit.allocator_bytes / total_bytes, device_index)


@dataclass(slots=True)
class OutOfMemoryWatch:
    """What happened, once `catch_out_of_memory` is left: None in `requested_bytes` when all went well.

    `device` is the number of the card that was full, the first where torch did not say.
    """

    failed: bool = False
    device: int = 0
    message: str = ""
    requested_bytes: int | None = None
    short_bytes: int | None = None
    _observed: tuple[int, int, int] | None = field(default=None)

    @property
    def observed(self) -> bool:
        """Whether torch reported a failed allocation."""
        return self._observed is not None

    def observe(self, device: int, asked_bytes: int, allowed_bytes: int, free_bytes: int) -> None:
        """torch's own observer: the segment asked for, what the process is allowed, what the card has free."""
        self.device = device
        self._observed = (asked_bytes, allowed_bytes, free_bytes)

    def settle(self, message: str, reserved_bytes: int) -> None:
        """Turn what was observed, or at worst what the message says, into bytes asked and bytes short."""
        self.failed = True
        self.message = " ".join(message.split())[:1000]
        if self._observed is None:
            tried = _TRIED.search(message)
            self.requested_bytes = parse_size_bytes(tried.group(1)) if tried else None
            return
        asked_bytes, allowed_bytes, free_bytes = self._observed
        self.requested_bytes = asked_bytes
        # Over the cap, or over what the card has left beside its context and other processes: the larger lack decides.
        self.short_bytes = max(0, reserved_bytes + asked_bytes - allowed_bytes, asked_bytes - free_bytes)


@contextmanager
def catch_out_of_memory(cuda: Any, core: Any) -> Iterator[OutOfMemoryWatch]:
    """Make out of memory on the device an answer. Everything else goes on as an error.

    transformers wraps what happens while it converts a weight in a RuntimeError of its own ("We encountered some issues
    during automatic conversion of the weights"), so any RuntimeError after an observed failure counts. So does one
    that says that a library was refused memory by the driver; how much it asked for is not known then.
    bitsandbytes ends the process itself where managed memory runs out (csrc/ops.cu, CUDA_CHECK_RETURN): no answer then.

    `core` is `torch._C`; `_cuda_attach_out_of_memory_observer` is what torch's memory documentation shows for taking a
    snapshot at the moment of failure. An observer cannot be detached: this belongs in a process of its own.
    """
    watch = OutOfMemoryWatch()
    attach = getattr(core, "_cuda_attach_out_of_memory_observer", None)
    if attach is not None:
        attach(watch.observe)
    try:
        yield watch
    except RuntimeError as error:
        if not (watch.observed or isinstance(error, cuda.OutOfMemoryError) or _DRIVER_REFUSED.search(str(error))):
            raise
        watch.settle(str(error), int(cuda.memory_reserved(watch.device)))


def smallest_surviving_bytes(
    survives: Callable[[int], bool], too_small_bytes: int, enough_bytes: int, step_bytes: int = DEVICE_STEP_BYTES
) -> int:
    """Bisect the cap between one that is known to fail and one that is known to do."""
    low, high = too_small_bytes // step_bytes, ceil_div(enough_bytes, step_bytes)
    while high - low > 1:
        middle = (low + high) // 2
        if survives(middle * step_bytes):
            high = middle
        else:
            low = middle
    return high * step_bytes
