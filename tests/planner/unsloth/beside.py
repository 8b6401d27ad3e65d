"""The recorded runs of Unsloth, and the formula's answer to the same requests."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from planner.model.model import Model
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.step.unsloth.buffers import unsloth_lines
from planner.units import ALLOCATION_GRANULE_BYTES, allocated
from tests.planner.step.recorded import Recorded, formula, recorded, static_bytes, trained_model

FILE = Path(__file__).with_name("recorded.jsonl")
PHASES = ("forward", "loss", "backward")
_NUMBERS = 4


class Beside(NamedTuple):
    """One recorded run: its bytes, and the formula's, before the step and in each phase."""

    row: Recorded
    static_bytes: int
    phases: dict[str, int]

    def fraction(self, phase: str) -> float:
        """By how much the formula's differ."""
        return self.phases[phase] / self.row.phases[phase] - 1

    @property
    def standing_fraction(self) -> float:
        """The same of what is there before the step."""
        return self.static_bytes / self.row.static_bytes - 1

    @property
    def peak_fraction(self) -> float:
        """The same of the step's largest moments."""
        return max(self.phases.values()) / self.row.peak_bytes - 1


@cache
def beside() -> tuple[Beside, ...]:
    """All of the table."""
    return tuple(map(_beside, recorded(FILE)))


def _beside(row: Recorded) -> Beside:
    request = Request.parse(row.request)
    recipe = Recipe.of(request)
    standing = static_bytes(row.request) + _buffer_bytes(trained_model(request), recipe)
    phases = {phase: standing + own for phase, own in formula(row.request).items()}
    # The loop holds the batch of the last step until the next is there: ids, labels and positions, and numbers of them.
    steps = recipe.steps_of_generation
    tokens = sum(recipe.kept_tokens) * steps
    held = 3 * allocated(8 * tokens) + (_NUMBERS + steps) * ALLOCATION_GRANULE_BYTES
    return Beside(row, standing + held, phases)


def _buffer_bytes(model: Model, recipe: Recipe) -> int:
    return sum(line.bytes for line in unsloth_lines(model, recipe) if line.alive_in)


def main() -> None:
    """Print every run, the worst last."""
    for each in sorted(beside(), key=lambda one: abs(one.peak_fraction)):
        found = "  ".join(f"{phase} {each.fraction(phase):+.3%}" for phase in PHASES)
        standing = each.static_bytes - each.row.static_bytes
        print(f"{each.peak_fraction:+.4%}  {each.row.name}: {found}, before the step {standing:+,} bytes")


if __name__ == "__main__":
    main()
