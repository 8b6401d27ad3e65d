"""A recorded allocation stream played through the allocator model: allocated, reserved, smallest capacity."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.expandable import ExpandableAllocator
from planner.probe.allocator import Block, CachingAllocator, OutOfDeviceMemoryError
from planner.probe.meters.events import Event
from planner.recipe import Recipe
from planner.units import MIB, ceil_div

AllocatorFactory = Callable[[int | None], CachingAllocator]
ALLOCATORS: dict[str, AllocatorFactory] = {"default": CachingAllocator, "expandable_segments": ExpandableAllocator}


def allocator_of(recipe: Recipe) -> AllocatorFactory:
    """The kind of allocator the request runs with."""
    return ALLOCATORS["expandable_segments" if recipe.training.expandable_segments else "default"]


@dataclass(frozen=True, slots=True)
class ReplayedPhase:
    """What torch's memory statistics would have read in one phase, reset when it began."""

    name: str
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """Where the stream stopped, what was asked for and how much the capacity lacked."""

    failed_phase: str
    requested_bytes: int
    short_bytes: int


@dataclass(frozen=True, slots=True)
class Replay:
    """The whole stream. `out_of_memory` is an answer; the phases then end with the one that failed."""

    peak_allocated_bytes: int
    peak_reserved_bytes: int
    phases: tuple[ReplayedPhase, ...]
    retries: int
    out_of_memory: OutOfMemory | None = None


def replay(events: Sequence[Event], allocator: CachingAllocator) -> Replay:
    """Play `events` through `allocator`. A phase name that returns is merged: worst peaks, last resident."""
    blocks: dict[int, Block] = {}
    phases: dict[str, ReplayedPhase] = {}
    phase, failure = "", None
    for event in events:
        if event.action == "alloc":
            try:
                blocks[event.block] = allocator.allocate(event.size_bytes)
            except OutOfDeviceMemoryError as error:
                failure = OutOfMemory(phase, error.requested_bytes, error.short_bytes)
                break
        elif event.action == "free":
            allocator.free(blocks.pop(event.block))
        elif event.action == "empty_cache":
            allocator.empty_cache()
        else:
            _close(phases, phase, allocator)
            phase = event.label
            allocator.reset_peaks()
    _close(phases, phase, allocator)
    return Replay(
        peak_allocated_bytes=max(read.peak_allocated_bytes for read in phases.values()),
        peak_reserved_bytes=max(read.peak_reserved_bytes for read in phases.values()),
        phases=tuple(read for name, read in phases.items() if name),
        retries=allocator.retries,
        out_of_memory=failure,
    )


def smallest_capacity_bytes(
    events: Sequence[Event], factory: AllocatorFactory = CachingAllocator, step_bytes: int = MIB
) -> int:
    """The smallest allocator capacity, to `step_bytes`, with which the whole stream survives.

    Survival is taken to be monotonic between the two bounds: allocated bytes can never be enough room for less than
    themselves, and the reserved peak of an unlimited run always is.
    """
    unlimited = replay(events, factory(None))
    low = ceil_div(unlimited.peak_allocated_bytes, step_bytes) - 1  # too small for what is alive at once
    high = ceil_div(unlimited.peak_reserved_bytes, step_bytes)
    while high - low > 1:
        middle = (low + high) // 2
        if replay(events, factory(middle * step_bytes)).out_of_memory is None:
            high = middle
        else:
            low = middle
    return high * step_bytes


def _close(phases: dict[str, ReplayedPhase], name: str, allocator: CachingAllocator) -> None:
    """Write down what the phase that ends has read."""
    before = phases.get(name)
    phases[name] = ReplayedPhase(
        name,
        max(allocator.peak_allocated_bytes, before.peak_allocated_bytes if before else 0),
        max(allocator.peak_reserved_bytes, before.peak_reserved_bytes if before else 0),
        allocator.allocated_bytes,
    )
