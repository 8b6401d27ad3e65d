"""The recorded dry runs, and the formula's answer to the same requests."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from planner.answer.static_lines import static_lines
from planner.catalog import resolve_gpu
from planner.gpu import Gpu
from planner.ledger import Line
from planner.memory.runtime import SLACK, runtime_lines
from planner.model.model import Model, resolve_model
from planner.model.reward_head import for_objective
from planner.request.objective import Objective
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.step import buffered_batch, evaluated_lines, fake_quantized_scales, generated_lines, offloaded_lines
from planner.step.lines import instants_of

FILE = Path(__file__).parent / "tables" / "recorded" / "families.jsonl"
PHASES = ("forward", "loss", "backward")


@dataclass(frozen=True)
class Recorded:
    """One dry run: bytes allocated when the step began, and the worst instant of each phase."""

    name: str
    request: dict[str, Any]
    static_bytes: int
    phases: dict[str, int]
    pinned_bytes: int = 0

    @property
    def peak_bytes(self) -> int:
        """The worst instant of the step."""
        return max(self.phases[phase] for phase in PHASES)


def recorded(file: Path = FILE) -> list[Recorded]:
    """All of one table that ran."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    fields = Recorded.__dataclass_fields__
    found = [row for row in rows if "name" in row and "error" not in row]
    return [Recorded(**{key: row[key] for key in fields if key in row}) for row in found]


def recorded_everywhere() -> list[Recorded]:
    """Those of every table."""
    return [row for file in sorted(FILE.parent.glob("*.jsonl")) for row in recorded(file)]


def card(request: Request) -> Gpu:
    """The request's custom card."""
    return resolve_gpu(request.gpu)


def formula(document: dict[str, Any]) -> dict[str, int]:
    """Bytes above the static ones at the worst instant of each phase."""
    request = Request.parse(document)
    decoder, recipe = trained_model(request).known_decoder(), Recipe.of(request)
    instants = instants_of(decoder, recipe, card(request))
    generated = generated_lines(decoder, recipe, card(request)) if recipe.generates else ()
    evaluated = evaluated_lines(decoder, recipe, card(request))
    before = {"forward": sum(line.bytes for line in generated), "loss": sum(line.bytes for line in evaluated)}
    passing = [line for line in _tensors(request) if not set(PHASES) <= set(line.alive_in)]
    beside = {phase: sum(line.bytes for line in passing if phase in line.alive_in) for phase in PHASES}
    return {
        instant.phase: max(instant.bytes, before.get(instant.phase, 0)) + beside[instant.phase]
        for instant in instants
    }


def static_bytes(document: dict[str, Any]) -> int:
    """What is there before the step begins, in tensors: the meter's live bytes know no slack of blocks."""
    return sum(line.bytes for line in _tensors(Request.parse(document)) if set(PHASES) <= set(line.alive_in))


@lru_cache
def _read(config: str, objective: Objective) -> Model:
    return for_objective(resolve_model(json.loads(config)), objective)


def trained_model(request: Request) -> Model:
    """The model that the request trains; equal ones are one, so that what is worked out for it is found again."""
    return _read(json.dumps(request.model), request.training.objective)


def optimizer_bytes(document: dict[str, Any]) -> int:
    """Everything at the worst instant of the optimizer's phase."""
    return sum(line.bytes for line in _tensors(Request.parse(document)) if "optimizer" in line.alive_in)


def left_bytes(document: dict[str, Any]) -> int:
    """What is there before the step begins and goes in the middle of it: the step's own, as the trace has it."""
    return sum(line.bytes for line in _left_by_the_step_before(Request.parse(document)) if line.alive_in)


def _left_by_the_step_before(request: Request) -> tuple[Line, ...]:
    return offloaded_lines(trained_model(request).known_decoder(), Recipe.of(request), card(request))


def _tensors(request: Request) -> list[Line]:
    """What the step itself does not make."""
    lines = (
        *static_lines(trained_model(request), Recipe.of(request), card(request)),
        *_left_by_the_step_before(request),
        *buffered_batch(Recipe.of(request), "optimizer"),
        *fake_quantized_scales(trained_model(request).known_decoder(), Recipe.of(request)),
        *runtime_lines(card(request).compute_capability, context_bytes=0, context_source=""),
    )
    return [line for line in lines if line.name != SLACK]


def error_fraction(row: Recorded) -> float:
    """How far the formula's peak of the step is from the dry run's."""
    peak_bytes = static_bytes(row.request) + max(formula(row.request).values())
    return (peak_bytes - row.peak_bytes) / row.peak_bytes


def phase_errors(row: Recorded) -> list[float]:
    """The same of each phase."""
    static = static_bytes(row.request)
    return [(static + own - row.phases[phase]) / row.phases[phase] for phase, own in formula(row.request).items()]
