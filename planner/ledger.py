"""Lines of bytes, each alive in some phases; folded into one total per phase. The peak is the largest moment."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Evidence = Literal["exact", "modelled", "measured", "allowance"]
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
    evidence: Evidence
    source: str
    working: str = ""


@dataclass(frozen=True, slots=True)
class Phase:
    """What is allocated at the worst instant of one phase."""

    name: str
    allocated_bytes: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """All lines of a plan."""

    lines: tuple[Line, ...]

    @classmethod
    def of(cls, lines: Iterable[Line]) -> "Ledger":
        """Keep the lines that weigh something."""
        return cls(tuple(line for line in lines if line.bytes))

    def phases(self) -> tuple[Phase, ...]:
        """One total per phase, in the order they happen."""
        return tuple(
            Phase(name, sum(line.bytes for line in self.lines if name in line.alive_in)) for name in PHASES
        )

    def peak(self) -> Phase:
        """The largest moment; the earliest of equals."""
        return max(self.phases(), key=lambda phase: phase.allocated_bytes)
