"""A trainer's command line as settings: `llamafactory-cli train --stage sft …`. Words are split, never run."""

import json
import re
import shlex
from typing import Any

_OPTION = re.compile(r"(?:^|\s)--[A-Za-z]")
_LAUNCHER = re.compile(
    r"^\s*(?:\w+=\S*\s+)*(?:llamafactory-cli|trl|axolotl|swift|accelerate|torchrun|python3?|deepspeed)\s"
)
# What a Python program has and no configuration.
_PROGRAM = re.compile(r"^(?:from [\w.]+ import |import [\w.]+|def \w+\(|class \w+|[\w.]+\s*=\s*\w+\()", re.MULTILINE)
_WORDS = {"true": True, "false": False, "none": None, "null": None}


def is_program(text: str) -> bool:
    """Whether this is Python, and not a dictionary of literals."""
    return _PROGRAM.search(text) is not None


def settings_of(text: str) -> dict[str, Any] | None:
    """The options of the first trainer's command in `text`, by their names; None where there is no such command."""
    for line in text.replace("\\\n", " ").splitlines():
        if _LAUNCHER.match(line) and _OPTION.search(line):
            try:
                return _options(shlex.split(line, comments=True))
            except ValueError:  # a quote that does not end
                return None
    return None


def _options(words: list[str]) -> dict[str, Any]:
    """`--name value`, `--name=value`, `--name a b` and `--name` alone, which is true."""
    found: dict[str, list[str]] = {}
    given: list[str] = []
    for word in words:
        if word.startswith("--") and len(word) > len("--"):
            name, _, value = word.removeprefix("--").partition("=")
            given = found[name.replace("-", "_")] = [value] if value else []
        else:
            given.append(word)
    return {name: _value(values) for name, values in found.items()}


def _value(values: list[str]) -> Any:
    if not values:
        return True
    read = [_scalar(value) for value in values]
    return read[0] if len(read) == 1 else read


def _scalar(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float | dict | list) else text
