"""`python -m planner.evidence.side_by_side`: formula, dry run and CUDA for every setting of the evidence matrix.

Writes reports/side_by_side.md and prints it. Allocated stands beside allocated, reserved beside reserved.
A record of another instrument than CUDA is no measurement of a card, and is not called one. No torch.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from planner.evidence.compared import Compared, compared
from planner.evidence.markdown import table
from planner.evidence.measured import smallest_allocator_bytes
from planner.measurement import Measurement
from planner.units import MIB

REPORT_FILE = Path(__file__).parent / "reports" / "side_by_side.md"

_NOT_MEASURED = "- not measured"
_NOT_RUN = "- not run"
_INTRO = """\
Written by `python -m planner.evidence.side_by_side`. MiB throughout; a difference is (left - right) / right. The dry
run's and CUDA's figures are the records that `python -m planner.probe.recording.matrix` appended to
`measured-dry-run.jsonl` and `measured-cuda.jsonl`; a dry run is no measurement of a card: it is the CUDA stack on a
virtual one. Reserved is with memory in plenty, so a run under a cap has none to compare."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One kind of bytes, as each instrument reads it; None where it does not."""

    name: str
    formula: Callable[[Compared], int | None]
    read: Callable[[Measurement], int | None]


ALLOCATED = Metric("Peak allocated", lambda row: row.allocated_bytes, lambda read: read.peak_allocated_bytes)
RESERVED = Metric("Peak reserved", lambda row: row.reserved_bytes, lambda read: read.peak_reserved_bytes)
SMALLEST = Metric(
    "Smallest allocator that survives",
    lambda row: row.smallest_bytes,
    smallest_allocator_bytes,
)


@dataclass(frozen=True, slots=True)
class Line:
    """One setting under one metric, in bytes."""

    row: Compared
    formula_bytes: int
    dry_run_bytes: int | None
    cuda_bytes: int | None

    @property
    def difference(self) -> float | None:
        """The formula's from the dry run, as a fraction of the dry run's."""
        return _off(self.formula_bytes, self.dry_run_bytes)


def lines(metric: Metric, rows: Iterable[Compared]) -> tuple[Line, ...]:
    """Every setting that the metric says something about."""
    found = []
    for row in rows:
        formula_bytes = metric.formula(row)
        if formula_bytes is not None:
            reads = (metric.read(each) if each is not None and each.outcome == "ok" else None for each in row.measured)
            found.append(Line(row, formula_bytes, *reads))
    return tuple(found)


def report(rows: Sequence[Compared]) -> str:
    """The whole report as Markdown."""
    parts = ["# Formula, dry run and measurement side by side", _INTRO]
    for metric in (ALLOCATED, RESERVED, SMALLEST):
        found = lines(metric, rows)
        parts += [f"## {metric.name}", table(_HEAD, map(_cells, found)), "\n".join(_summary(found))]
    parts += ["## Under a cap", table(("setting", "card", "formula", "dry run", "CUDA"), _capped(rows))]
    return "\n\n".join([*parts, "## Without a record", _missing(rows)]) + "\n"


_HEAD = ("setting", "formula", "dry run", "formula - dry run", "CUDA", "formula - CUDA", "dry run - CUDA")


def _cells(line: Line) -> tuple[str, ...]:
    dry_run, cuda = line.dry_run_bytes, line.cuda_bytes
    return (
        line.row.id,
        _mib(line.formula_bytes),
        _mib(dry_run) if dry_run is not None else _NOT_RUN,
        _percent(line.difference),
        _mib(cuda) if cuda is not None else _NOT_MEASURED,
        _percent(_off(line.formula_bytes, cuda)),
        _percent(_off(dry_run, cuda)),
    )


def _summary(found: Sequence[Line]) -> Iterable[str]:
    """Median and worst of each pair of instruments."""
    yield _spread("formula - dry run", [(line.row.id, line.difference) for line in found])
    yield _spread("formula - CUDA", [(line.row.id, _off(line.formula_bytes, line.cuda_bytes)) for line in found])
    yield _spread("dry run - CUDA", [(line.row.id, _off(line.dry_run_bytes, line.cuda_bytes)) for line in found])


def _spread(name: str, pairs: Iterable[tuple[str, float | None]]) -> str:
    known = [(error, setting) for setting, error in pairs if error is not None]
    if not known:
        return f"* {name}: nothing to compare"
    worst, where = max(known, key=lambda pair: abs(pair[0]))
    half = median(abs(error) for error, _ in known)
    return f"* {name}: {len(known)} settings, median {half:.3%}, worst {worst:+.3%} ({where})"


def _capped(rows: Iterable[Compared]) -> Iterable[tuple[str, ...]]:
    """Runs that play a smaller card: the formula's verdict, and how they ended."""
    for row in rows:
        if row.cap is not None and row.verdict is not None:
            dry_run, cuda = _ended(row.measured.dry_run, _NOT_RUN), _ended(row.measured.cuda, _NOT_MEASURED)
            yield row.id, row.cap, row.verdict.replace("_", " "), dry_run, cuda


def _ended(read: Measurement | None, missing: str) -> str:
    if read is None:
        return missing
    return "survived" if read.outcome == "ok" else f"out of memory ({read.failed_phase})"


def _missing(rows: Iterable[Compared]) -> str:
    without = [row.id for row in rows if row.measured.dry_run is None]
    dry = "every setting has a dry run" if not without else "no dry run of " + ", ".join(without)
    count = sum(row.measured.cuda is not None for row in rows)
    return f"* {dry}\n* CUDA: {f'{count} settings measured' if count else 'not measured'}"


def _off(left: int | None, right: int | None) -> float | None:
    return None if left is None or right is None else left / right - 1


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:,.1f}"


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{fraction:+.2%}"


if __name__ == "__main__":
    text = report(compared())
    REPORT_FILE.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
