"""How the formulas compared with torch's record of its allocator: one row for each family and set of switches.

comparison.jsonl is made by `python -m tests.planner.step.compared` (part of `make accuracy`) from every recorded dry
run; tests/planner/step/test_whole_table.py makes it again and fails where it is stale. A label such as *exact* comes
from here and is never written by hand.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from planner.ledger import Evidence, Line
from planner.step.recorded.words import Known, Words, unlike

FILE = Path(__file__).with_name("comparison.jsonl")
STEP_PHASES = ("forward", "loss", "backward")
# A step is forward, loss and backward; the others are lines that stand beside it.
Part = Literal["step", "weights", "trained", "optimizer", "workspace", "generation", "buffers", "evaluation"]
# What is there throughout a step, which the records have as one sum.
STANDING = "standing"
_THROUGHOUT = (*STEP_PHASES, "optimizer")


@dataclass(frozen=True, slots=True)
class Row:
    """The dry runs with one set of switches. A phase that is not in `unequal` was equal to the byte in all of them.

    `phases`: how many were compared in each.
    `unequal`: phase -> (dry runs in which it was equal, the largest difference as a fraction of the phase's bytes).
    """

    words: Words
    settings: int
    phases: int
    unequal: Mapping[str, tuple[int, float]]

    @property
    def worst_fraction(self) -> float:
        """The largest difference of any phase."""
        return max((worst for _, worst in self.unequal.values()), default=0.0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The recorded switches nearest to a run's: `row` is None where no dry run of its family is on record.

    `unlike` names the switches in which the two differ: none where these very switches were recorded.
    """

    row: Row | None
    unlike: tuple[str, ...] = ()

    @property
    def same_switches(self) -> bool:
        """Whether these very switches were recorded."""
        return self.row is not None and not self.unlike

    @property
    def phases(self) -> int:
        """Phases of the nearest dry runs that were compared."""
        return self.row.settings * self.row.phases if self.row else 0

    @property
    def equal_phases(self) -> int:
        """Those that were equal to the byte."""
        if self.row is None:
            return 0
        return self.phases - sum(self.row.settings - equal for equal, _ in self.row.unequal.values())

    @property
    def worst_fraction(self) -> float | None:
        """The largest difference of those phases, as a fraction of the phase's bytes."""
        return self.row.worst_fraction if self.row else None

    def label(self, alive_in: Iterable[str]) -> Evidence:
        """How well the bytes of a line are known that is alive in these phases.

        exact: every recorded dry run with these switches was equal to the byte in every one of the phases.
        compared: recorded, and not always equal. not recorded: there is none with these switches.
        """
        if self.row is None or self.unlike:
            return "not recorded"
        alive = set(alive_in)
        phases = {STANDING} if alive.issuperset(_THROUGHOUT) else alive
        return "compared" if phases & self.row.unequal.keys() else "exact"

    def labelled(self, lines: Iterable[Line]) -> tuple[Line, ...]:
        """These lines, each with its label, but for those that say themselves how they are known."""
        return tuple(
            line.known_as(self.label(line.alive_in)) if line.evidence == "not recorded" else line
            for line in lines
        )

    def of_several_cards(self) -> "Comparison":
        """The same of a run on more than one card: what is recorded here ran on one."""
        return Comparison(self.row, (*self.unlike, "cards"))

    def to_dict(self) -> dict[str, Any]:
        """As the API writes it."""
        return {
            "same_switches": self.same_switches,
            "unlike": list(self.unlike),
            "settings": self.row.settings if self.row else 0,
            "phases": self.phases,
            "equal_phases": self.equal_phases,
            "worst_fraction": self.worst_fraction,
            "sentence": self.sentence,
        }

    @property
    def sentence(self) -> str:
        """What an answer says of itself, for a person."""
        if self.row is None:
            return "Not recorded: no dry run of this family of models stands beside the formula"
        if self.unlike:
            other = _listed(self.unlike)
            return f"Not recorded with these settings; the nearest on record differ in {other}: {self._agreement}"
        return f"Beside recorded dry runs with these settings: {self._agreement}"

    @property
    def _agreement(self) -> str:
        equal = f"{self.equal_phases} of {self.phases} phases equal to the byte"
        worst = self.worst_fraction
        return equal if not worst else f"{equal}, the rest within {_percent(worst)}"


def _percent(fraction: float) -> str:
    """Rounded up to one digit, so that it bounds what it stands for."""
    for digits in range(1, 6):
        step = 10.0**-digits
        if fraction * 100 >= step:
            return f"{-(-fraction * 100 // step) * step:.{digits}f} %"
    return "0.00001 %"


def _listed(names: tuple[str, ...]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def nearest(part: Part, known: Known) -> Comparison:
    """Of one part of a run, the row of this family that differs in the fewest switches; of several, the worst."""
    return _nearest(part, known.family, tuple(known.words.items()))


@lru_cache(maxsize=1024)
def _nearest(part: str, family: str, items: tuple[tuple[str, str], ...]) -> Comparison:
    words = dict(items)
    found = [(tuple(unlike(words, row.words)), row) for row in _rows().get((part, family), ())]
    if not found:
        return Comparison(None)
    names, row = min(found, key=lambda pair: (len(pair[0]), -pair[1].worst_fraction))
    return Comparison(row, names)


@cache
def _rows() -> Mapping[tuple[str, str], tuple[Row, ...]]:
    """All rows by part and family. A part's first line has the commonest switches, each other what is unlike them."""
    parts: dict[str, dict[str, Any]] = {}
    found: dict[tuple[str, str], tuple[Row, ...]] = {}
    for document in map(json.loads, FILE.read_text(encoding="utf-8").splitlines()):
        if "common" in document:
            parts[document["part"]] = document
            continue
        part, key = parts[document["part"]], (document["part"], document["family"])
        unequal = {phase: (equal, worst) for phase, (equal, worst) in document["unequal"].items()}
        row = Row({**part["common"], **document["unlike"]}, document["settings"], part["phases"], unequal)
        found[key] = (*found.get(key, ()), row)
    return found
