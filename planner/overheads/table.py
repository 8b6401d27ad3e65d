"""Loads the evidence on what lies between allocated bytes and the memory a card must have."""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import resources
from itertools import accumulate
from statistics import median
from typing import Any

from planner.errors import CatalogError
from planner.units import GIB

_KEYS = {
    "context": {"card", "compute_capability", "gib", "source"},
    "parallel": {"setting", "runs", "worst_error", "source"},
    "reserved": {"setting", "runs", "lowest", "highest", "source"},
}
# One line per method: `runs` compared, the largest error of an allocated peak, and where that was read; made by
# `python -m tests.planner.step.compared` from the recorded tables.
FORMULA_ERRORS = "formula_errors"
# From this share of the peak on, a tensor counts as large. Of the replays that made none, none lost more than 15 %;
# of the others, up to 31 % (planner/overheads/fragmentation.jsonl).
LARGE_SHARE = 0.08


def are_large(largest_bytes: int, peak_bytes: int) -> bool:
    """Whether the largest tensor of a run is large beside its peak."""
    return largest_bytes >= LARGE_SHARE * peak_bytes


@dataclass(frozen=True, slots=True)
class Replay:
    """One run played with less and less memory: what was lost, as a fraction of the allocated peak."""

    lost: float
    expandable_segments: bool
    varying_lengths: bool
    large_pieces: bool

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Replay":
        """Read one line of fragmentation.jsonl."""
        training, peak_bytes = row["request"]["training"], row["allocated_bytes"]
        return cls(
            row["capacity_bytes"] / peak_bytes - 1,
            training["expandable_segments"],
            training["padded"],
            are_large(row["largest_bytes"], peak_bytes),
        )


@dataclass(frozen=True, slots=True)
class Band:
    """A range read off evidence, where it was read, and how many runs or readings it spans."""

    low: float
    likely: float
    high: float
    source: str
    runs: int


@dataclass(frozen=True, slots=True)
class Jump:
    """A fraction of the reserved bytes, and where it was read."""

    fraction: float
    source: str


@dataclass(frozen=True, slots=True)
class Overheads:
    """The evidence table, folded on demand into bands."""

    context: tuple[dict[str, Any], ...]
    reserved: tuple[dict[str, Any], ...]
    formula: tuple[dict[str, Any], ...] = ()
    parallel: tuple[dict[str, Any], ...] = ()
    replays: tuple[Replay, ...] = ()
    jumps: tuple[dict[str, Any], ...] = ()

    def fragmentation_band(
        self, *, varying_lengths: bool, expandable_segments: bool = False, large_pieces: bool = False
    ) -> Band:
        """Fraction of the allocated peak that is lost to pieces of the wrong size: the replays of this kind of run.

        The ends are those of the replays that had it no worse, too: large pieces and varying lengths never help.
        """
        same = [row for row in self.replays if row.expandable_segments == expandable_segments]
        kind = [row for row in same if (row.varying_lengths, row.large_pieces) == (varying_lengths, large_pieces)]
        no_worse = [
            row for row in same if row.varying_lengths <= varying_lengths and row.large_pieces <= large_pieces
        ]
        losses = [row.lost for row in no_worse]
        source = (
            f"{len(losses)} runs played with less and less memory, "
            f"{'expandable segments' if expandable_segments else 'default allocator'}, "
            f"{'varying' if varying_lengths else 'fixed'} lengths, {'large' if large_pieces else 'small'} pieces"
        )
        return Band(min(losses), median(row.lost for row in kind), max(losses), source, len(losses))

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

    def jump(self, method: str) -> Jump:
        """How much more a smaller run of this method may reserve: the worst of all runs played over rising lengths."""
        rows = [row for row in self.jumps if row["method"] == method]
        worst = max((_worst_jump([size for _, size in row["reserved"]]) for row in rows), default=0.0)
        return Jump(worst, f"{sum(len(row['reserved']) for row in rows)} runs played over rising lengths, {method}")

    def formula_band(self, method: str) -> Band:
        """Fraction by which the formula's allocated peak may be off, for full fine-tuning or for adapters."""
        kind = "full" if method == "full" else "adapters"
        return _error_band([row for row in self.formula if row["method"] == kind])

    def parallel_band(self) -> Band:
        """The same for one card of several."""
        return _error_band(self.parallel)

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
    folder = resources.files("planner.overheads")
    table = parse_overheads(folder.joinpath("overheads.toml").read_text(encoding="utf-8"))
    replays, jumps, formula = (
        [json.loads(line) for line in folder.joinpath(f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("fragmentation", "jumps", FORMULA_ERRORS)
    )
    return replace(table, replays=tuple(map(Replay.of, replays)), jumps=tuple(jumps), formula=tuple(formula))


def parse_overheads(text: str) -> Overheads:
    """Read an evidence table from TOML; it has no replays, jumps or errors of the formula.

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
def fragmentation_band(varying_lengths: bool, expandable_segments: bool, large_pieces: bool) -> Band:
    """`Overheads.fragmentation_band` of the shipped table."""
    return overheads().fragmentation_band(
        varying_lengths=varying_lengths, expandable_segments=expandable_segments, large_pieces=large_pieces
    )


@cache
def formula_band(method: str) -> Band:
    """`Overheads.formula_band` of the shipped table."""
    return overheads().formula_band(method)


@cache
def parallel_band() -> Band:
    """`Overheads.parallel_band` of the shipped table."""
    return overheads().parallel_band()


@cache
def reserved_band() -> Band:
    """`Overheads.reserved_band` of the shipped table."""
    return overheads().reserved_band()


@cache
def jump(method: str) -> Jump:
    """`Overheads.jump` of the shipped table."""
    return overheads().jump(method)


def _error_band(rows: Sequence[dict[str, Any]]) -> Band:
    worst = max(row["worst_error"] for row in rows)
    return Band(-worst, 0.0, worst, "; ".join(row["source"] for row in rows), sum(row["runs"] for row in rows))


def _worst_jump(rising: Sequence[int]) -> float:
    """The largest of what came before over each size, less one; 0 where none was larger."""
    return max(before / size - 1 for before, size in zip(accumulate(rising, max), rising, strict=True))


def _capability(row: dict[str, Any]) -> tuple[int, int]:
    major, minor = row["compute_capability"].split(".")
    return int(major), int(minor)
