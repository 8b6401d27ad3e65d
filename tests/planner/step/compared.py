"""`python -m tests.planner.step.compared`: write what the product says of its own errors, from every recorded dry run.

planner/step/recorded/comparison.jsonl: for each part of a run, one row per family and set of switches: how many dry
runs have them, and of each phase that was not equal in all, in how many it was and how far it was off at most.
planner/overheads/formula_errors.jsonl: for each method, how many dry runs there are, and how far a peak was
off at most.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from math import ceil
from pathlib import Path
from typing import NamedTuple

import planner.overheads
from planner.overheads.table import FORMULA_ERRORS
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.step.recorded.comparison import FILE, STANDING, STEP_PHASES
from planner.step.recorded.words import (
    Known,
    buffer_words,
    evaluation_words,
    optimizer_words,
    step_words,
    trained_words,
    weights_words,
    workspace_words,
)
from tests.planner.serving.foreseen import RECORDS, foreseen
from tests.planner.step.recorded import (
    Recorded,
    card,
    formula,
    left_bytes,
    optimizer_bytes,
    recorded_everywhere,
    static_bytes,
    trained_model,
)
from tests.planner.unsloth.beside import Beside
from tests.planner.unsloth.beside import beside as unsloth_runs

# Fractions are rounded up to this.
_FINEST = 1e-6
ERRORS_FILE = Path(planner.overheads.__file__).with_name(f"{FORMULA_ERRORS}.jsonl")
_SOURCES = {
    "adapters": "formula against dry run, tests/planner/step",
    "full": "formula against dry run of full fine-tuning, tests/planner/step",
}


class ComparedRow(NamedTuple):
    """One dry run: its bytes, and what the formula's differ from them by, in each phase and throughout the step."""

    row: Recorded
    differences_bytes: dict[str, int]

    def fraction(self, phase: str) -> float:
        """The difference of one phase."""
        return self.differences_bytes[phase] / (self.row.phases.get(phase) or self.row.static_bytes)

    @property
    def peak_fraction(self) -> float:
        """The difference of the step's largest moments."""
        ours = max(self.row.phases[phase] + self.differences_bytes[phase] for phase in STEP_PHASES)
        return (ours - self.row.peak_bytes) / self.row.peak_bytes


class Entry(NamedTuple):
    """One part of one dry run: what it is known by, and the difference of each phase that it is compared in."""

    part: str
    known: Known
    fractions: dict[str, float]


@cache
def compared() -> tuple[ComparedRow, ...]:
    """Every recorded dry run beside the formula; takes about ten seconds, and is kept for the process."""
    return tuple(map(compared_row, recorded_everywhere()))


def compared_row(row: Recorded) -> ComparedRow:
    """One dry run beside the formula."""
    standing = static_bytes(row.request)
    ours = {phase: standing + own for phase, own in formula(row.request).items()}
    ours["optimizer"] = optimizer_bytes(row.request)
    differences = {phase: size_bytes - row.phases[phase] for phase, size_bytes in ours.items()}
    before = standing + left_bytes(row.request)
    return ComparedRow(row, {**differences, STANDING: before - row.static_bytes})


def entries() -> Iterator[Entry]:
    """Of every recorded dry run, each part."""
    for each in compared():
        yield from _parts_of_a_step(each)
    yield from map(_generation, RECORDS)
    for one in unsloth_runs():
        yield from _parts_of_unsloth(one)


def _parts_of_unsloth(one: Beside) -> Iterator[Entry]:
    """What is Unsloth's own; weights, adapters and the optimizer are those of the other tables."""
    request = Request.parse(one.row.request)
    decoder, recipe, gpu = trained_model(request).known_decoder(), Recipe.of(request), card(request)
    fractions = {phase: one.fraction(phase) for phase in STEP_PHASES}
    yield Entry("step", step_words(decoder, recipe, gpu), fractions)
    yield Entry("buffers", buffer_words(decoder, recipe), {STANDING: one.standing_fraction})


def _parts_of_a_step(each: ComparedRow) -> Iterator[Entry]:
    request = Request.parse(each.row.request)
    decoder, recipe, gpu = trained_model(request).known_decoder(), Recipe.of(request), card(request)

    def entry(part: str, known: Known, *phases: str) -> Entry:
        return Entry(part, known, {phase: each.fraction(phase) for phase in phases})

    if recipe.evaluates:  # what is larger is read of its loss and the evaluation's
        yield entry("evaluation", evaluation_words(decoder, recipe.of_evaluation, gpu), "loss")
    else:
        yield entry("step", step_words(decoder, recipe, gpu), *STEP_PHASES)
    if recipe.generates:  # its record begins with the prompts on the card, which no standing part has
        return
    yield entry("weights", weights_words(decoder.model_type, recipe), STANDING)
    yield entry("trained", trained_words(decoder.model_type, recipe), STANDING, "optimizer")
    yield entry("optimizer", optimizer_words(recipe), STANDING, "optimizer")
    yield entry("workspace", workspace_words(gpu.compute_capability), STANDING)


def _generation(name: str) -> Entry:
    found = foreseen(name)
    fractions = {phase: found.totals[phase] / size_bytes - 1 for phase, size_bytes in RECORDS[name]["peaks"].items()}
    return Entry("generation", found.known, fractions)


def lines(found: Iterable[Entry]) -> Iterator[str]:
    """The file, line by line: of each part the commonest switches, then what each row has unlike them."""
    parts: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], list[dict[str, float]]]] = defaultdict(dict)
    for part, known, fractions in found:
        parts[part].setdefault((known.family, tuple(known.words.items())), []).append(fractions)
    for part, rows in parts.items():
        common = _commonest(words for _, words in rows)
        phases = len(next(iter(rows.values()))[0])
        yield json.dumps({"part": part, "phases": phases, "common": common})
        for (family, words), runs in sorted(rows.items()):
            unlike = {name: value for name, value in words if common[name] != value}
            settings, unequal = len(runs), _unequal(runs)
            yield json.dumps(
                {"part": part, "family": family, "settings": settings, "unlike": unlike, "unequal": unequal}
            )


def peak_errors() -> Iterator[str]:
    """The other file, line by line. Preferences are held to ranges of their own."""
    rows = [each for each in compared() if each.row.request["training"].get("objective", "sft") == "sft"]
    for method, source in _SOURCES.items():
        full = method == "full"
        errors = [abs(each.peak_fraction) for each in rows if (each.row.request.get("method") == "full") == full]
        worst = round(ceil(max(errors) / _FINEST) * _FINEST, 6)
        yield json.dumps({"method": method, "runs": len(errors), "worst_error": worst, "source": source})


def _commonest(rows: Iterable[Iterable[tuple[str, str]]]) -> dict[str, str]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for words in rows:
        for name, value in words:
            counts[name][value] += 1
    return {name: max(sorted(count), key=count.__getitem__) for name, count in counts.items()}


def _unequal(runs: list[dict[str, float]]) -> dict[str, tuple[int, float]]:
    """Of the phases that were not equal in every run: in how many they were, and the largest difference."""
    found = {}
    for phase in runs[0]:
        fractions = [abs(run[phase]) for run in runs]
        if any(fractions):
            worst = round(ceil(max(fractions) / _FINEST) * _FINEST, 6)
            found[phase] = (sum(fraction == 0 for fraction in fractions), worst)
    return found


if __name__ == "__main__":
    FILE.write_text("".join(f"{line}\n" for line in lines(entries())), encoding="utf-8")
    ERRORS_FILE.write_text("".join(f"{line}\n" for line in peak_errors()), encoding="utf-8")
