"""One quantity as the textbook, our formulas, the dry run and a real run have it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from planner.answer.plan import Plan
from planner.ledger import Line
from planner.measurement import Measurement

# What planner/memory/weights.py calls the chapter's "quantization constants".
CONSTANTS = frozenset({"quantization statistics", "code tables and offsets"})


@dataclass(frozen=True, slots=True)
class TextbookRow:
    """One row of the table; None where nobody said."""

    name: str
    note: str
    textbook: int | None
    formula: int | None
    dry_run: int | None = None
    measured: int | None = None


def textbook_rows(plan: Plan, measurements: Sequence[Measurement]) -> list[TextbookRow]:
    """The textbook's three terms beside ours, then the phases as far as an instrument read them."""
    dry, real = _newest(measurements, ("dry-run",)), _newest(measurements, ("cuda", "cpu"))
    book, weights = plan.textbook, _resident(plan, "weights")
    constants = _total(line for line in weights if line.name in CONSTANTS)
    rows = [
        TextbookRow("Weights", "0.5 N in the textbook", book.weights_bytes, _total(weights) - constants),
        TextbookRow("Quantization constants", "N/64", book.constants_bytes, constants),
        TextbookRow("Adapters", "2 r (d + k)", book.adapters_bytes, _total(_resident(plan, "adapters"))),
    ]
    for phase in plan.phases if dry or real else ():
        read = (_phase_bytes(dry, phase.name), _phase_bytes(real, phase.name))
        rows.append(TextbookRow(phase.name.capitalize(), "phase", None, phase.allocated_bytes, *read))
    note = "the textbook stops before the step"
    peaks = (dry.peak_allocated_bytes if dry else None, real.peak_allocated_bytes if real else None)
    rows.append(TextbookRow("Peak, allocated", note, book.total_bytes, plan.peak_allocated_bytes, *peaks))
    return rows


def newest_of_each(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The newest reading of each instrument, out of memory included, the truest instrument first."""
    newest = {reading.instrument: reading for reading in reversed(measurements)}
    return [newest[name] for name in ("cuda", "cpu", "dry-run") if name in newest]


def _newest(measurements: Iterable[Measurement], instruments: tuple[str, ...]) -> Measurement | None:
    """The newest that went through, of the first instrument that has one."""
    whole = [reading for reading in measurements if reading.outcome == "ok"]
    found = [reading for name in instruments for reading in whole if reading.instrument == name]
    return found[0] if found else None


def _resident(plan: Plan, cause: str) -> list[Line]:
    """Lines of one cause that stay for the whole step."""
    return [line for line in plan.lines if line.cause == cause and "optimizer" in line.alive_in]


def _total(lines: Iterable[Line]) -> int:
    return sum(line.bytes for line in lines)


def _phase_bytes(reading: Measurement | None, name: str) -> int | None:
    phases = reading.phases if reading else ()
    return next((phase.peak_allocated_bytes for phase in phases if phase.name == name), None)
