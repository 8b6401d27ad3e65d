"""The phases of a probe, each predicted beside measured: six rows from the start, bars that grow while it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.drawing.scale import percent_of
from planner.ledger import PHASES
from planner.measurement import Measurement

State = Literal["ahead", "now", "done", "failed"]
_FIRST = "first_"


@dataclass(frozen=True, slots=True)
class PhaseBars:
    """One phase: bytes and bar widths, None if not measured or not predicted."""

    name: str
    state: State
    predicted_bytes: int | None
    measured_bytes: int | None
    predicted_width: float
    measured_width: float


@dataclass(frozen=True, slots=True)
class PhaseTable:
    """The phases a plan has, then those that only an instrument tells apart: the first step, saving."""

    rows: tuple[PhaseBars, ...]
    others: tuple[tuple[str, int], ...]

    def predicted_in(self, phase: str | None) -> int | None:
        """What the plan foresaw for a phase, of the first step or a later one."""
        name = (phase or "").removeprefix(_FIRST)
        return next((row.predicted_bytes for row in self.rows if row.name == name), None)


def phase_table(
    prediction: Mapping[str, Any] | None,
    measurement: Measurement | None,
    lines: Sequence[Mapping[str, Any]],
    failed: str | None,
    is_final: bool,
) -> PhaseTable:
    """Lay out what is known: the measurement where there is one, else the progress lines so far.

    A phase's bytes are the worst of all its steps; the first step has no optimizer state yet, so a later one tops it.
    """
    if measurement is not None:
        read = {phase.name: phase.peak_allocated_bytes for phase in measurement.phases}
    else:
        read = {str(line["phase"]): _bytes_in(line) for line in lines}
    foreseen = {phase["name"]: phase["allocated_bytes"] for phase in (prediction or {}).get("phases", ())}
    measured = {name: _worst(read, name) for name in PHASES}
    whole = max([*foreseen.values(), *(size for size in measured.values() if size is not None)], default=1)
    now = None if is_final or not lines else _under_way(lines[-1])
    gone = (failed or "").removeprefix(_FIRST)
    rows = tuple(
        PhaseBars(
            name=name,
            state="failed" if name == gone else "now" if name == now else "ahead" if size is None else "done",
            predicted_bytes=foreseen.get(name),
            measured_bytes=size,
            predicted_width=percent_of(foreseen.get(name, 0), whole),
            measured_width=percent_of(size or 0, whole),
        )
        for name, size in measured.items()
    )
    others = tuple((name.replace("_", " "), size) for name, size in read.items() if name not in PHASES)
    return PhaseTable(rows, others)


def _worst(read: Mapping[str, int], name: str) -> int | None:
    return max((size for phase, size in read.items() if phase in (name, _FIRST + name)), default=None)


def _bytes_in(line: Mapping[str, Any]) -> int:
    """What a line says was read. A line is another program's word: anything else than a number is nothing."""
    size = line.get("peak_allocated_bytes")
    return size if isinstance(size, int) else 0


def _under_way(line: Mapping[str, Any]) -> str | None:
    """The phase that runs after this line: its own until it has ended, then the next; after the last, a step begins."""
    name = str(line["phase"]).removeprefix(_FIRST)
    if not line.get("ended") or name not in PHASES:
        return name
    place = PHASES.index(name) + 1
    return PHASES[place] if place < len(PHASES) else "forward"
