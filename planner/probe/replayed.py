"""What the followed card would have read: the dry run's stream, replayed through the model of its allocator."""

from planner.measurement import DeviceReading, PhaseReading
from planner.overheads import context_band
from planner.probe.limits import MemoryLimit
from planner.probe.meters.live import LiveMeter
from planner.probe.options import Options
from planner.probe.replay import AllocatorFactory, Replay, replay, smallest_capacity_bytes
from planner.probe.report import Outcome
from planner.probe.target import Target


def card_outcome(meter: LiveMeter, target: Target, options: Options, factory: AllocatorFactory) -> Outcome:
    """Allocated, reserved and resident bytes per phase; under a limit also whether, when and by how much it fails."""
    capacity_bytes = _capacity_bytes(target, options)
    played = replay(meter.events, factory(capacity_bytes))
    failure = played.out_of_memory
    return Outcome(
        phases=replayed_phases(meter, played),
        device=device_reading(target),
        failed_phase=failure.failed_phase if failure else None,
        requested_bytes=failure.requested_bytes if failure else None,
        short_bytes=failure.short_bytes if failure else None,
        smallest_capacity_bytes=smallest_capacity_bytes(meter.events, factory) if options.find_smallest else None,
        context_bytes=_context_bytes(target) if capacity_bytes is not None else None,
    )


def replayed_phases(meter: LiveMeter, played: Replay) -> tuple[PhaseReading, ...]:
    """The replay's bytes with the meter's seconds."""
    seconds = {phase.name: phase.seconds for phase in meter.readings()}
    return tuple(
        PhaseReading(
            name=phase.name,
            peak_allocated_bytes=phase.peak_allocated_bytes,
            peak_reserved_bytes=phase.peak_reserved_bytes,
            resident_bytes=phase.resident_bytes,
            seconds=seconds[phase.name],
        )
        for phase in played.phases
    )


def device_reading(target: Target) -> DeviceReading:
    """The followed card; nothing on it was read."""
    if target.capability is None:
        return DeviceReading(name=target.name)
    major, minor = target.capability
    return DeviceReading(
        name=target.name, total_memory_bytes=target.total_memory_bytes, compute_capability=f"{major}.{minor}"
    )


def _capacity_bytes(target: Target, options: Options) -> int | None:
    if options.memory_limit_bytes is None:
        return None
    return MemoryLimit(options.memory_limit_bytes, _context_bytes(target)).allocator_bytes


def _context_bytes(target: Target) -> int:
    return round(context_band(target.capability).likely)
