"""Lines of bytes, each alive in some phases; folded into one total per phase. The peak is the largest moment."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from planner.lazy_attribute import lazy_attribute

# How well a figure is known. The first three say how it compared with torch's own record of its allocator, and are
# looked up, never written beside a formula: planner/step/recorded/comparison.py. `modelled` is a figure that no such
# record has: of loading, of several cards, of another program.
Evidence = Literal["exact", "compared", "not recorded", "modelled", "measured", "allowance"]
Cause = Literal["weights", "adapters", "gradients", "optimizer", "activations", "logits", "workspace", "runtime"]

# In the order they happen. `prepare` is PEFT's part: kbit upcast and adapter creation.
PHASES = ("load", "prepare", "forward", "loss", "backward", "optimizer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One named group of tensors. `formula` has symbols, `working` the same with this plan's numbers filled in."""

    name: str
    bytes: int
    cause: Cause
    alive_in: tuple[str, ...]
    formula: str
    source: str
    evidence: Evidence = "not recorded"
    working: str = ""

    def known_as(self, evidence: Evidence) -> "Line":
        """The same line with its label; written out, as `dataclasses.replace` takes several times as long."""
        return Line(
            name=self.name,
            bytes=self.bytes,
            cause=self.cause,
            alive_in=self.alive_in,
            formula=self.formula,
            source=self.source,
            evidence=evidence,
            working=self.working,
        )


@dataclass(frozen=True, slots=True)
class Phase:
    """What is allocated at the worst instant of one phase."""

    name: str
    allocated_bytes: int


class Ledger:
    """All lines of a plan that weigh something, and their totals."""

    def __init__(self, lines: Callable[[], Iterable[Line]], totals: Sequence[int] | None = None) -> None:
        """`lines` is called when they are first read, or their totals, unless those of `PHASES` are known before."""
        self._lines = lines
        self._totals = totals

    @classmethod
    def of(cls, lines: Iterable[Line]) -> "Ledger":
        """Keep the lines that weigh something."""
        kept = tuple(lines)
        return cls(lambda: kept)

    @lazy_attribute
    def lines(self) -> tuple[Line, ...]:
        """Each with its formula."""
        return tuple(line for line in self._lines() if line.bytes)

    def phases(self) -> tuple[Phase, ...]:
        """One total per phase, in the order they happen."""
        totals = self._totals
        if totals is None:
            totals = [sum(line.bytes for line in self.lines if name in line.alive_in) for name in PHASES]
        return tuple(map(Phase, PHASES, totals))

    def peak(self) -> Phase:
        """The largest moment; the earliest of equals."""
        return max(self.phases(), key=lambda phase: phase.allocated_bytes)
