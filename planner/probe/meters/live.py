"""Live bytes of every storage an operator creates, counted as the CUDA caching allocator counts them.

A storage is counted once, when an operator first returns it, and uncounted by a finalizer when the last tensor
that needs it is gone: autograd's saved tensors included, with no model of what autograd saves.
"""

import functools
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from planner.measurement import PhaseReading
from planner.probe.meters.accumulation import InPlaceSums
from planner.probe.meters.events import Event
from planner.probe.meters.inplace import in_place_where_torch_is
from planner.probe.meters.meter import Tell, tell_nobody
from planner.units import allocated

# Bytes a kernel allocates for itself and frees before it returns: (operator's arguments) -> sizes.
Temporary = Callable[[Sequence[Any], Mapping[str, Any]], Sequence[int]]

_DEVICE = torch.ops.prim.device.default


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
    """Counts live bytes for runs on real CPU tensors and on fake ones; `events` is the stream for the replay."""

    def __init__(
        self,
        temporaries: Mapping[str, Temporary] | None = None,
        workspaces: Mapping[str, int] | None = None,
        tell: Tell = tell_nobody,
    ) -> None:
        """`temporaries`: by operator name. `workspaces`: bytes a library takes for good when a phase first begins."""
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self.live_bytes = 0
        self.tell = tell
        self.events: list[Event] = []
        self._temporaries = dict(temporaries or {})
        self._workspaces = dict(workspaces or {})
        self._names: dict[Any, str] = {}
        self._blocks: dict[int, tuple[int, weakref.ref[torch.UntypedStorage]]] = {}  # by storage address
        self._sizes: dict[int, int] = {}  # block -> counted bytes
        self._next_block = 0
        self._phases: dict[str, _Phase] = {}
        self._phase: _Phase | None = None
        self._started = 0.0
        self._host: Literal["no", "scalars", "all"] = "no"
        self._sums = InPlaceSums()

    def begin(self, phase: str) -> None:
        """End the current phase and begin `phase`; a name that returns is merged."""
        self._end_phase()
        self._phase = self._phases.setdefault(phase, _Phase(phase, self.live_bytes))
        self._phase.peak_bytes = max(self._phase.peak_bytes, self.live_bytes)
        self.events.append(Event("phase", label=phase))
        if phase in self._workspaces:
            self._alloc(self._workspaces.pop(phase), "workspace")

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
    def on_host(self, scalars_only: bool = False) -> Iterator[None]:
        """Leave new storages (or only scalars) uncounted: code that in life allocates host memory."""
        before, self._host = self._host, "scalars" if scalars_only else "all"
        try:
            yield
        finally:
            self._host = before

    def leave_host(self) -> None:
        """Count again, until the `on_host` block ends: what follows is on the device after all."""
        self._host = "no"

    def adopt(self, tensor: torch.Tensor) -> None:
        """Count a storage that no operator returned, or that was made `on_host` and has now moved."""
        self._count(tensor, "adopt")

    def transient(self, size_bytes: int, label: str) -> None:
        """A block that is allocated and freed at once."""
        self._free(self._alloc(size_bytes, label))

    def empty_cache(self) -> None:
        """Pass `torch.cuda.empty_cache()` on to the replay."""
        self.events.append(Event("empty_cache"))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nothing is compiled here, and the wrapper that keeps the compiler out runs at every operator."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is _DEVICE and isinstance(args[0], FakeTensor):  # two of three calls ask this
            return args[0].fake_device
        kwargs, func = kwargs or {}, in_place_where_torch_is(self._sums.instead_of(func, args))
        name = self._names.get(func) or self._names.setdefault(func, str(func))
        if name.startswith("prim."):  # questions such as "which device?"; they make nothing
            return func(*args, **kwargs)
        temporary = self._temporaries.get(name)
        blocks = [self._alloc(size, name) for size in temporary(args, kwargs)] if temporary else ()
        result = func(*args, **kwargs)
        self._count_all(result, name)
        for block in blocks:
            self._free(block)
        return result

    def _count_all(self, result: Any, label: str) -> None:
        if isinstance(result, torch.Tensor):
            self._count(result, label)
        elif isinstance(result, (tuple, list)):
            for item in result:
                self._count_all(item, label)

    def _count(self, tensor: torch.Tensor, label: str) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._blocks or self._host == "all" or (self._host == "scalars" and tensor.dim() == 0):
            return
        if tensor.device.type == "meta":
            return
        size_bytes = storage.nbytes()
        if size_bytes:
            block = self._alloc(size_bytes, label)
            forget = functools.partial(self._forget, address, block)
            self._blocks[address] = block, weakref.ref(storage, forget)

    def _forget(self, address: int, block: int, _: Any) -> None:
        if self._blocks[address][0] == block:
            del self._blocks[address]
        self._free(block)

    def _alloc(self, size_bytes: int, label: str) -> int:
        self._next_block = block = self._next_block + 1
        counted_bytes = self._sizes[block] = allocated(size_bytes)
        self.live_bytes += counted_bytes
        if self._phase is not None and self.live_bytes > self._phase.peak_bytes:
            self._phase.peak_bytes = self.live_bytes
        self.events.append(Event("alloc", block, size_bytes, label))
        return block

    def _free(self, block: int) -> None:
        self.live_bytes -= self._sizes.pop(block)
        self.events.append(Event("free", block))
