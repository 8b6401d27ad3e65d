"""One published run beside its runs on the virtual card. No torch."""

from dataclasses import dataclass

from planner.evidence.published_dry_runs.records import Record, records
from planner.evidence.published_dry_runs.settings import Setting, published_settings

# How far from the range of schedules a measured figure may lie, as a fraction of itself: the bounds.
TOLERANCES = {"peak_allocated": 0.001, "peak_reserved": 0.01}


@dataclass(frozen=True, slots=True)
class Compared:
    """A setting and its record."""

    setting: Setting
    record: Record

    @property
    def is_right(self) -> bool:
        """Whether the real card's outcome is one that the virtual card had."""
        return self.setting.outcome in self.record.outcomes

    @property
    def is_certain(self) -> bool:
        """Whether every schedule had the same outcome."""
        return len(set(self.record.outcomes)) == 1

    def range_of(self, moment: str) -> tuple[int, int]:
        """Least and most bytes over the schedules that reached it."""
        return min(self.record.bytes[moment]), max(self.record.bytes[moment])

    def distance(self, moment: str) -> float:
        """Of the measured figure from the range, as a fraction of itself; 0 inside it, negative where it is above."""
        measured = self.setting.measured[moment]
        least, most = self.range_of(moment)
        if measured < least - self.setting.rounding_bytes:
            return (least - measured) / measured
        if measured > most + self.setting.rounding_bytes:
            return (most - measured) / measured
        return 0.0

    def holds(self, moment: str) -> bool:
        """Inside the range, or within the tolerance of it."""
        return abs(self.distance(moment)) <= TOLERANCES[moment]

    @property
    def added_measured(self) -> int:
        """What the step added above the resident model on the real card."""
        return self.setting.measured["peak_allocated"] - self.setting.measured["load_resident"]

    @property
    def added(self) -> tuple[int, ...]:
        """The same in each schedule."""
        pairs = zip(self.record.bytes["peak_allocated"], self.record.bytes["load_resident"], strict=True)
        return tuple(peak - resident for peak, resident in pairs)

    @property
    def added_is_equal(self) -> bool:
        """To the byte, in at least one schedule; to the published digits where those are fewer."""
        slack = 2 * self.setting.rounding_bytes
        return any(abs(added - self.added_measured) <= slack for added in self.added)


def compared() -> tuple[Compared, ...]:
    """Every recorded setting beside what was measured, in the order of the settings."""
    found = {record.id: record for record in records()}
    return tuple(Compared(setting, found[setting.id]) for setting in published_settings() if setting.id in found)


def measured_runs() -> tuple[Compared, ...]:
    """Those that a real card completed: their bytes are known."""
    return tuple(row for row in compared() if row.setting.outcome == "completed")
