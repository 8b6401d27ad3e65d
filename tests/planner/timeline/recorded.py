"""The recorded dry runs, and the formula's answer to the same requests."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.families import decoder_of
from planner.gpu import Gpu
from planner.recipe import Recipe
from planner.request import CustomGpu, Request
from planner.timeline.lines import instants_of

FILE = Path(__file__).with_name("recorded.jsonl")
PHASES = ("forward", "loss", "backward")


@dataclass(frozen=True)
class Recorded:
    """One dry run: bytes allocated when the step began, and the worst instant of each phase."""

    name: str
    request: dict[str, Any]
    static_bytes: int
    phases: dict[str, int]

    @property
    def peak_bytes(self) -> int:
        """The worst instant of the step."""
        return max(self.phases[phase] for phase in PHASES)


def recorded() -> list[Recorded]:
    """All of them."""
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return [Recorded(**row) for row in rows if "name" in row and "error" not in row]


def card(request: Request) -> Gpu:
    """The request's custom card."""
    assert isinstance(request.gpu, CustomGpu)
    major, minor = request.gpu.compute_capability.split(".")
    return Gpu(
        id="custom", name="custom", usable_bytes=request.gpu.total_memory_bytes, usable_evidence="given",
        usable_source="test", compute_capability=(int(major), int(minor)),
    )  # fmt: skip


def formula(document: dict[str, Any]) -> dict[str, int]:
    """Bytes above the static ones at the worst instant of each phase."""
    request = Request.parse(document)
    assert isinstance(request.model, dict)
    instants = instants_of(decoder_of(request.model), Recipe.of(request), card(request))
    return {instant.phase: instant.bytes for instant in instants}


def error_fraction(row: Recorded) -> float:
    """How far the formula's peak of the step is from the dry run's."""
    return (row.static_bytes + max(formula(row.request).values()) - row.peak_bytes) / row.peak_bytes
