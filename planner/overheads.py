"""Loads the evidence on what lies between allocated bytes and the memory a card must have."""

import tomllib
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from statistics import median
from typing import Any

from planner.errors import CatalogError
from planner.units import GIB

_KEYS = {
    "fragmentation": {
        "setting", "allocator", "lengths", "load_block", "scores_written", "allocated_mib", "capacity_mib", "source",
    },
    "context": {"card", "compute_capability", "gib", "source"},
    "formula": {"setting", "runs", "worst_error", "source"},
    "reserved": {"setting", "runs", "lowest", "highest", "source"},
}


@dataclass(frozen=True, slots=True)
class Band:
    """A range read off evidence, where it was read, and how many runs or readings it spans."""

    low: float
    likely: float
    high: float
    source: str
    runs: int


@dataclass(frozen=True, slots=True)
class Overheads:
    """The evidence table, folded on demand into bands."""

    fragmentation: tuple[dict[str, Any], ...]
    context: tuple[dict[str, Any], ...]
    formula: tuple[dict[str, Any], ...]
    reserved: tuple[dict[str, Any], ...]

    def fragmentation_band(
        self, *, varying_lengths: bool, expandable_segments: bool = False, scores_written: bool = False
    ) -> Band:
        """Fraction of the allocated peak that is lost to pieces of the wrong size.

        Fixed lengths: low is the best row, likely the median of those with the loader's block, high the worst row.
        Varying lengths were replayed for one model only, so the spread that fixed lengths show between models is
        added to the worst row. Expandable segments reserved the same for fixed and varying lengths
        (memory-internals 6.1), so both use the fixed rows. Rows whose attention wrote its scores out count only for
        runs that do.
        """
        allocator = "expandable_segments" if expandable_segments else "default"
        known = [row for row in self.fragmentation if scores_written or not row["scores_written"]]
        rows = [row for row in known if row["allocator"] == allocator]
        fixed = [(_lost(row), row["load_block"]) for row in rows if row["lengths"] == "fixed"]
        losses = [loss for loss, _ in fixed]
        with_block = [loss for loss, block in fixed if block]
        if expandable_segments or not varying_lengths:
            source = f"{len(losses)} allocator replays, {allocator.replace('_', ' ')}, fixed lengths"
            return Band(min(losses), median(with_block), max(losses), source, len(losses))
        varying = [_lost(row) for row in rows if row["lengths"] == "varying"]
        spread = max(with_block) - min(with_block)
        source = f"{len(varying)} allocator replays of one model with varying lengths, widened by {spread:.1%}"
        return Band(min(losses), median(varying), max(varying) + spread, source, len(losses) + len(varying))

    def context_band(self, compute_capability: tuple[int, int] | None) -> Band:
        """Bytes outside the allocator for a card generation; over all generations where none was read."""
        same = [row for row in self.context if _capability(row) == compute_capability]
        rows = same or list(self.context)
        sizes = [row["gib"] * GIB for row in rows]
        generation = ".".join(map(str, compute_capability)) if same and compute_capability else "any"
        source = f"{len(rows)} readings, compute capability {generation}: " + ", ".join(
            dict.fromkeys(row["card"] for row in rows)
        )
        return Band(min(sizes), median(sizes), max(sizes), source, len(rows))

    def formula_band(self) -> Band:
        """Fraction by which the formula's allocated peak may be off."""
        worst = max(row["worst_error"] for row in self.formula)
        source = "; ".join(row["source"] for row in self.formula)
        return Band(-worst, 0.0, worst, source, sum(row["runs"] for row in self.formula))

    def reserved_band(self) -> Band:
        """Fraction by which a run may reserve less or more than its replay."""
        low = min(row["lowest"] for row in self.reserved)
        high = max(row["highest"] for row in self.reserved)
        source = "; ".join(f"{row['runs']} runs, {row['source']}" for row in self.reserved)
        return Band(low, 0.0, high, source, sum(row["runs"] for row in self.reserved))


@cache
def overheads() -> Overheads:
    """Read the evidence table.

    Raises:
        CatalogError: a row has a missing or unknown key; names the row.
    """
    text = resources.files("planner.evidence").joinpath("overheads.toml").read_text(encoding="utf-8")
    return parse_overheads(text)


def parse_overheads(text: str) -> Overheads:
    """Read an evidence table from TOML.

    Raises:
        CatalogError: a row has a missing or unknown key; names the row.
    """
    tables = tomllib.loads(text)
    for kind, rows in tables.items():
        for number, row in enumerate(rows, 1):
            if kind not in _KEYS or set(row) != _KEYS[kind]:
                wanted = ", ".join(sorted(_KEYS.get(kind, _KEYS)))
                msg = f"overheads.toml: [[{kind}]] row {number} must have exactly these keys: {wanted}"
                raise CatalogError(msg)
    return Overheads(**{kind: tuple(tables[kind]) for kind in _KEYS})


@lru_cache(maxsize=64)
def context_band(compute_capability: tuple[int, int] | None) -> Band:
    """`Overheads.context_band` of the shipped table."""
    return overheads().context_band(compute_capability)


@lru_cache(maxsize=8)
def fragmentation_band(varying_lengths: bool, expandable_segments: bool, scores_written: bool) -> Band:
    """`Overheads.fragmentation_band` of the shipped table."""
    return overheads().fragmentation_band(
        varying_lengths=varying_lengths, expandable_segments=expandable_segments, scores_written=scores_written
    )


def _lost(row: dict[str, Any]) -> float:
    return float(row["capacity_mib"] / row["allocated_mib"] - 1)


def _capability(row: dict[str, Any]) -> tuple[int, int]:
    major, minor = row["compute_capability"].split(".")
    return int(major), int(minor)
