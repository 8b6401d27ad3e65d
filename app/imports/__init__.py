"""A pasted trainer configuration as a plan, and the plan's advice back in the same file.

Nothing in a pasted file is ever executed or opened: it is data of a bounded size, read by a table of keys.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.imports.allocator import put_allocator
from app.imports.cards import put_cards
from app.imports.dialects import TRAINERS
from app.imports.effects import Effect
from app.imports.no_training import KINDS
from app.imports.rules import Assumed, Ignored, Reading, Recognised, Trainer
from app.imports.sources.command_line import NoTrainingError, settings_of
from app.imports.sources.loading import MOST_CHARACTERS, Loaded, UnreadableConfigError, dump, load, refusal
from app.imports.sources.python_program import NotReadableError, read_program, source_of
from app.reading import reading
from planner.answer.not_planned import NotPlanned
from planner.errors import FieldProblem, FitproofError, NotPlannedError

__all__ = ["TRAINERS", "Assumed", "Ignored", "Imported", "Recognised", "UnreadableConfigError", "read"]


# What Windows' editors put before a text.
BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Imported:
    """A file understood: the request it asks for, and what became of every key."""

    trainer: Trainer
    loaded: Loaded
    reading: Reading

    @property
    def document(self) -> dict[str, Any]:
        """The request document. `model` or `gpu` are absent where the file does not name them."""
        return self.reading.document

    @property
    def not_planned(self) -> tuple[NotPlanned, ...]:
        """The keys that move memory and are not part of the request."""
        refused = (
            NotPlanned(
                key=problem.field, value=self.reading.config.get(problem.field), why=problem.message,
                planned=f"with a guess at {problem.field}", saves=True,
            )
            for problem in self.reading.contradictions
        )  # fmt: skip
        unread = (
            NotPlanned(
                key=key, value=source, why="is worked out when the program runs; planned with its default",
                planned=f"with a guess at {key}", saves=True,
            )
            for key, source in self.loaded.unread.items()
            if not self.trainer.ignored.has_no_effect(key)
        )  # fmt: skip
        done = (
            NotPlanned(key=source, value=None, why=effect.why, planned=effect.planned, saves=effect.saves)
            for source, effect in self.loaded.effects.items()
        )
        return (*self.reading.not_planned, *refused, *unread, *done)

    def in_the_files_words(self, problems: list[FieldProblem] | tuple[FieldProblem, ...]) -> list[FieldProblem]:
        """Problems of the request under the names that the file has for them."""
        keys = {item.field: item.key for item in self.reading.recognised}
        return [FieldProblem(keys.get(problem.field, problem.field), problem.message) for problem in problems]

    def leave_out(self, error: FitproofError, document: dict[str, Any]) -> bool:
        """Take out of `document` what no formula follows, and name it as not planned; False where it is another error,
        or none of the file's own keys.
        """
        keys = {item.field: item.key for item in self.reading.recognised}
        if not isinstance(error, NotPlannedError) or any(problem.field not in keys for problem in error.problems):
            return False
        for problem in error.problems:
            section, _, name = problem.field.partition(".")
            document[section] = {key: value for key, value in document[section].items() if key != name}
            self.reading.leave_out(keys[problem.field], Effect(problem.message))
        return True

    def edited(self, change: Mapping[str, Any]) -> tuple[str, list[str]]:
        """The file with `change` (dotted request paths) made, comments kept, and the paths it has no key for."""
        if self.loaded.is_command:
            return self.loaded.text, list(change)
        config = copy.deepcopy(self.loaded.config)
        left = self.trainer.edit(config, change)
        return dump(self.loaded, config), left


def read(text: str, *, model: str = "", gpu: str = "") -> Imported:
    """Understand a pasted configuration. `model` and `gpu` fill in what the file does not say; what it says wins.

    Raises:
        UnreadableConfigError: the text cannot be read safely, or no trainer's keys are in it.
    """
    text = text.removeprefix(BYTE_ORDER_MARK)
    loaded = _from_command(text) or _from_program(text) or load(text)
    with reading("a trainer's configuration", "config"):
        return _understood(loaded, model=model, gpu=gpu)


def _understood(loaded: Loaded, *, model: str, gpu: str) -> Imported:
    config = {key: _plain(value, yaml=not loaded.is_json) for key, value in loaded.config.items()}
    trainer = _dialect(config)
    reading = trainer.read(config)
    for path, given in (("model", model), ("gpu", gpu)):
        if given:
            reading.assume(path, given, "given beside the file")
    put_cards(reading)
    put_allocator(reading)
    return Imported(trainer, loaded, reading)


def _from_command(text: str) -> Loaded | None:
    """A command line's options, which nothing is written back into."""
    if len(text) > MOST_CHARACTERS:
        return None  # what loading refuses anyway
    try:
        options = settings_of(text)
    except NoTrainingError as error:
        if source_of(text) is not None:  # a command in a program's docstring
            return None
        raise refusal(str(error)) from None
    if options is not None:
        return Loaded(options, text, is_json=False, is_command=True)
    return None


def _from_program(text: str) -> Loaded | None:
    """The arguments of a Python script or notebook, which is parsed and never run, nor written back into."""
    source = source_of(text)
    if source is None:
        return None
    if len(source) > MOST_CHARACTERS:
        raise refusal(f"holds more than {MOST_CHARACTERS // 1024} KiB of Python; paste the cells that make the run")
    try:
        program = read_program(source)
    except NotReadableError as error:
        raise refusal(str(error)) from None
    return Loaded(
        program.settings, text, is_json=False, is_command=True, unread=program.unread, effects=program.effects
    )


def _dialect(config: Mapping[str, Any]) -> Trainer:
    """Of the dialects with a telling key in the file, the one that knows most of its keys; then the most telling."""
    if kind := next((kind for kind in KINDS if kind.is_meant(config)), None):
        raise refusal(f"is {kind.name}: {kind.advice}")
    best = max(TRAINERS, key=lambda trainer: _score(trainer, config))
    if not any(_score(best, config)):
        known = ", ".join(trainer.name for trainer in TRAINERS)
        raise refusal(f"has no key that any trainer we read would have; we read {known}")
    return best


def _score(trainer: Trainer, config: Mapping[str, Any]) -> tuple[int, int]:
    """How many of the file's keys the dialect knows, and how many give it away; nothing where none does."""
    keys = set(trainer.flat(config))
    telling = len(trainer.signature & keys)
    return (sum(map(trainer.knows, keys)), telling) if telling else (0, 0)


# Within quotes these are strings to every parser, and booleans to the author and to the trainers' pydantic.
_QUOTED_BOOLEANS = {"true": True, "false": False}
# PyYAML, which the trainers read with, knows these as booleans; YAML 1.2 and ruamel know them as words.
_OLD_BOOLEANS = {"yes": True, "on": True, "no": False, "off": False}


def _plain(value: Any, *, yaml: bool) -> Any:
    """Values without ruamel's dress: it remembers quotes and digits, a request does not need to."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, yaml=yaml) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, yaml=yaml) for item in value]
    if isinstance(value, str) and value.lower() in _QUOTED_BOOLEANS:
        return _QUOTED_BOOLEANS[value.lower()]
    if yaml and type(value) is str and value.lower() in _OLD_BOOLEANS:  # a quoted word has a type of its own
        return _OLD_BOOLEANS[value.lower()]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return None if value is None else str(value)
