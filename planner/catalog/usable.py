"""How much of a card torch can use: read, or derived from what the driver takes on a card's nearest kin."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from planner.units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The readings of one card: nvidia-smi's usual total, and torch's totals as (system, bytes)."""

    id: str
    family: str
    smi_mib: int | None
    torch_readings: tuple[tuple[str, int], ...]

    def linux_bytes(self) -> int | None:
        """The smallest total torch printed on Linux in the card's usual ECC state."""
        return min((size for system, size in self.torch_readings if system == "linux"), default=None)

    def driver_total(self) -> tuple[int, str] | None:
        """What the driver calls the card's total, and who printed it."""
        if self.smi_mib is not None:
            return self.smi_mib * MIB, "nvidia-smi's total"
        others = [size for system, size in self.torch_readings if system in ("windows_or_wsl", "unknown")]
        return (min(others), "torch's total on Windows or an unstated system,") if others else None


@dataclass(frozen=True, slots=True)
class Usable:
    """Bytes torch gets, how that is known, and from where."""

    bytes: int
    evidence: Literal["measured", "modelled"]
    source: str


def usable_memory(card: Sample, samples: Iterable[Sample]) -> Usable | None:
    """Settle a card's usable memory; None where no source allows it.

    Windows and WSL print the total that nvidia-smi prints, to within 2 MiB in every row that has both.

    1. The smallest Linux torch total: drivers take more with every generation (the T4 lost 197 MiB over the years).
    2. The driver's total less the largest gap seen in the card's family. A card larger than
       every kin gets the gap scaled up in proportion, because no reading bounds it.
    """
    linux_bytes = card.linux_bytes()
    if linux_bytes is not None:
        count = sum(system == "linux" for system, _ in card.torch_readings)
        which = f"smallest of {count} torch totals" if count > 1 else "the one torch total"
        return Usable(linux_bytes, "measured", f"{which} printed on Linux")
    total, gap = card.driver_total(), _largest_gap(card.family, samples)
    if total is None or gap is None:
        return None
    total_bytes, printed_by = total
    gap_bytes = -(-gap.bytes * max(total_bytes, gap.largest_kin_bytes) // gap.largest_kin_bytes)
    why = f"{printed_by} {total_bytes // MIB:,} MiB less {gap_bytes / MIB:,.0f} MiB"
    kin = f"the largest gap on Linux in its family ({card.family}, seen on {gap.seen_on})"
    return Usable(total_bytes - gap_bytes, "modelled", f"{why}, {kin}")


@dataclass(frozen=True, slots=True)
class _Gap:
    bytes: int
    seen_on: str
    largest_kin_bytes: int


def _largest_gap(family: str, samples: Iterable[Sample]) -> _Gap | None:
    kin = [
        (sample.smi_mib * MIB - linux_bytes, sample.id, sample.smi_mib * MIB)
        for sample in samples
        if sample.family == family and sample.smi_mib is not None and (linux_bytes := sample.linux_bytes()) is not None
    ]
    if not kin:
        return None
    gap_bytes, seen_on, _ = max(kin)
    return _Gap(gap_bytes, seen_on, max(total for *_, total in kin))
