"""Live bytes of every storage an operator creates, counted as the CUDA caching allocator counts them.

A storage is counted once, when an operator first returns it, and uncounted by a finalizer when the last tensor
that needs it is gone: autograd's saved tensors included, with no model of what autograd saves.
"""

import functools
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from planner.measurement import PhaseReading
from planner.probe.meters.accumulation import InPlaceSums
from planner.probe.meters.inplace import in_place_where_torch_is
from planner.probe.meters.meter import Tell, tell_nobody
from planner.units import allocated


@dataclass(slots=True)
class _Phase:
    name: str
    peak_bytes: int
    resident_bytes: int = 0
    seconds: float = 0.0

    def reading(self) -> PhaseReading:
        return PhaseReading(
            name=self.name,
            peak_allocated_bytes=self.peak_bytes,
            resident_bytes=self.resident_bytes,
            seconds=round(self.seconds, 4),
        )


class LiveMeter(TorchDispatchMode):
    """Counts live bytes for runs on CPU tensors."""

    def __init__(self, tell: Tell = tell_nobody) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self.live_bytes = 0
        self.tell = tell
        self._blocks: dict[int, tuple[int, weakref.ref[torch.UntypedStorage]]] = {}  # by storage address
        self._sizes: dict[int, int] = {}  # block -> counted bytes
        self._next_block = 0
        self._phases: dict[str, _Phase] = {}
        self._phase: _Phase | None = None
        self._started = 0.0
        self._on_host = False
        self._sums = InPlaceSums()

    def begin(self, phase: str) -> None:
        """End the current phase and begin `phase`; a name that returns is merged."""
        self._end_phase()
        self._phase = self._phases.setdefault(phase, _Phase(phase, self.live_bytes))
        self._phase.peak_bytes = max(self._phase.peak_bytes, self.live_bytes)

    def __exit__(self, *raised: Any) -> None:
        """End the last phase and stop watching."""
        self._end_phase()
        super().__exit__(*raised)  # type: ignore[no-untyped-call]  # torch leaves it unannotated

    def _end_phase(self) -> None:
        if self._phase is not None:
            self._phase.resident_bytes = self.live_bytes
            self._phase.seconds += time.monotonic() - self._started
            self.tell(self._phase.reading(), True)
        self._phase = None
        self._started = time.monotonic()

    def readings(self) -> tuple[PhaseReading, ...]:
        """One reading per phase in the order of first appearance."""
        return tuple(phase.reading() for phase in self._phases.values())

    def now(self) -> PhaseReading | None:
        """The phase under way as read so far."""
        phase = self._phase
        return None if phase is None else replace(phase, resident_bytes=self.live_bytes).reading()

    @contextmanager
    def on_host(self) -> Iterator[None]:
        """Leave new storages uncounted: code that on a card allocates host memory."""
        before, self._on_host = self._on_host, True
        try:
            yield
        finally:
            self._on_host = before

    def adopt(self, tensor: torch.Tensor) -> None:
        """Count a storage that no operator returned, or that was made `on_host` and has now moved."""
        self._count(tensor)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nothing is compiled here, and the wrapper that keeps the compiler out runs at every operator."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        func = in_place_where_torch_is(self._sums.instead_of(func, args))
        result = func(*args, **(kwargs or {}))
        self._count_all(result)
        return result

    def _count_all(self, result: Any) -> None:
        if isinstance(result, torch.Tensor):
            self._count(result)
        elif isinstance(result, (tuple, list)):
            for item in result:
                self._count_all(item)

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._blocks or self._on_host:
            return
        if tensor.device.type == "meta":
            return
        size_bytes = storage.nbytes()
        if size_bytes:
            block = self._alloc(size_bytes)
            forget = functools.partial(self._forget, address, block)
            self._blocks[address] = block, weakref.ref(storage, forget)

    def _forget(self, address: int, block: int, _: Any) -> None:
        if self._blocks[address][0] == block:
            del self._blocks[address]
        self._free(block)

    def _alloc(self, size_bytes: int) -> int:
        self._next_block = block = self._next_block + 1
        counted_bytes = self._sizes[block] = allocated(size_bytes)
        self.live_bytes += counted_bytes
        if self._phase is not None and self.live_bytes > self._phase.peak_bytes:
            self._phase.peak_bytes = self.live_bytes
        return block

    def _free(self, block: int) -> None:
        self.live_bytes -= self._sizes.pop(block)
