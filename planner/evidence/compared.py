"""Every setting of the evidence matrix: what the formula says of it, and what instruments recorded. No torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from planner.answer.plan import Plan, plan
from planner.answer.replay.reserved_bytes import reserved_bytes, smallest_capacity_bytes
from planner.evidence.matrix import SETTINGS_FILE, settings
from planner.evidence.measured import FOLDER, records
from planner.lazy_attribute import lazy_attribute
from planner.measurement import Instrument, Measurement
from planner.request.schema import Request
from planner.units import parse_size_bytes


class Measured(NamedTuple):
    """What each instrument recorded; None where it was not run."""

    dry_run: Measurement | None
    cuda: Measurement | None


@dataclass(frozen=True)
class Compared:
    """One setting. The formula's figures are worked out when they are asked for."""

    id: str
    request: dict[str, Any]
    options: dict[str, str]
    measured: Measured

    @lazy_attribute
    def _plan(self) -> Plan:
        return plan(Request.parse(self.request))

    @property
    def cap(self) -> str | None:
        """The smaller card that is played, as it was said."""
        return self.options.get("--memory-limit")

    @property
    def allocated_bytes(self) -> int | None:
        """The formula's allocated peak. A capped run that dies has none to compare."""
        dies = any(each is not None and each.outcome != "ok" for each in self.measured)
        return None if dies else self._plan.peak_allocated_bytes

    @property
    def reserved_bytes(self) -> int | None:
        """The formula's reserved peak, with memory in plenty."""
        return None if self.cap else reserved_bytes(self._plan.model, self._plan.recipe, self._plan.gpu)

    @property
    def smallest_bytes(self) -> int | None:
        """The formula's least memory for the allocator, where the setting asks for it."""
        if "--find-smallest" not in self.options:
            return None
        return smallest_capacity_bytes(self._plan.model, self._plan.recipe, self._plan.gpu)

    @property
    def verdict(self) -> str | None:
        """The formula's, on a card of the cap's size that is otherwise the setting's."""
        if self.cap is None:
            return None
        major, minor = self._plan.gpu.compute_capability or (0, 0)
        card = {"total_memory_bytes": parse_size_bytes(self.cap), "compute_capability": f"{major}.{minor}"}
        return plan(Request.parse({**self.request, "gpu": card})).verdict


def compared(folder: Path = FOLDER) -> tuple[Compared, ...]:
    """The matrix in its own order, with the records that lie beside it."""
    dry_runs, cuda = _by_id("dry-run", folder), _by_id("cuda", folder)
    return tuple(
        Compared(row.id, row.request, _options(row.options), Measured(dry_runs.get(row.id), cuda.get(row.id)))
        for row in settings(folder / SETTINGS_FILE.name)
    )


def _by_id(instrument: Instrument, folder: Path) -> dict[str, Measurement]:
    return {record.id: record.measurement for record in records(instrument, folder)}


def _options(words: Iterable[str]) -> dict[str, str]:
    """`--name value` and `--name`, as the matrix writes them."""
    found, name = dict[str, str](), ""
    for word in words:
        if word.startswith("--"):
            name = word
        found[name] = "" if word is name else word
    return found
