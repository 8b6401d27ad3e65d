"""A trainer's command line as settings: `llamafactory-cli train --stage sft …`. Words are split, never run."""

import json
import re
import shlex
from typing import Any

_OPTION = re.compile(r"(?:^|\s)--[A-Za-z]")
_ASSIGNMENT = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)=(\"[^\"]*\"|'[^']*'|[^\s;&|]*)", re.MULTILINE)
_COMMAND = re.compile(
    r"^\s*(?:\w+=\S*\s+)*"
    r"(?P<program>llamafactory-cli|lmf|trl|axolotl|swift|megatron|litgpt|autotrain|accelerate|torchrun|python3?|deepspeed)"
    r"\s+(?P<first>\S+)"
)
_SCRIPT = re.compile(r"(?:^|\s)(?:\S*/)?(\w+)\.py(?:\s|$)")
# `$(expr 32 / 4)` and `$((32 / 4))` of whole numbers.
_EXPRESSION = re.compile(r"\$\((?:expr\s+|\(\s*)(\d+)\s*([*/+-])\s*(\d+)\s*\)?\)")
_WORDS = {"true": True, "false": False, "none": None, "null": None}
# Variables that say how a run is spread, and that its model sees pictures (ms-swift reads its pixels from there).
_COUNTS = ("NPROC_PER_NODE", "NNODES")
_SEES = ("MAX_PIXELS", "VIDEO_MAX_PIXELS", "FPS_MAX_FRAMES")
# Subcommands that train, of the programs that have others, too.
_TRAINS = {
    "llamafactory-cli": {"train"},
    "lmf": {"train"},
    "swift": {"sft", "pt", "rlhf"},
    "axolotl": {"train"},
    "megatron": set(),
    "trl": {"sft", "dpo", "grpo", "kto", "reward", "rloo", "orpo", "cpo", "bco", "gkd", "ppo"},
}


class NoTrainingError(ValueError):
    """A command that trains nothing, or trains in a way that no dialect stands for."""


def settings_of(text: str) -> dict[str, Any] | None:
    """The options of the first trainer's command in `text`, by their names; None where there is no such command.

    What is run stands under `command`: "trl dpo", or a script's name; variables that move memory under their names.

    Raises:
        NoTrainingError: the command is there, and trains nothing that is read here.
    """
    other = ""
    for line in _substituted(text.replace("\\\n", " ")).splitlines():
        found = _COMMAND.match(line)
        if found is None or not _OPTION.search(line):
            continue
        program, first = found["program"], found["first"]
        if program in _TRAINS and first not in _TRAINS[program]:
            other = f"{program} {first}"
            continue
        try:
            options = _options(shlex.split(line, comments=True))
        except ValueError:  # a quote that does not end
            return None
        command = f"{program} {first}" if program in _TRAINS else _script(line) or program
        return options | {"command": command} | _environment(text, line[: found.start("program")])
    if other:
        raise NoTrainingError(f"runs `{other}`, which is no training that is read here; paste the training's command")
    return None


def _environment(text: str, before: str) -> dict[str, str]:
    """Variables set in the script or before the command that say more than one card, or pictures."""
    names = dict(_ASSIGNMENT.findall(text)) | dict(re.findall(r"(\w+)=(\S+)", before))
    cards = {name: value for name, value in names.items() if name == "CUDA_VISIBLE_DEVICES" and "," in value}
    ranks = {name: value for name, value in names.items() if name in _COUNTS and value.strip("\"'") != "1"}
    return cards | ranks | {name: value for name, value in names.items() if name in _SEES}


def _script(line: str) -> str:
    found = _SCRIPT.search(line)
    return found[1] if found else ""


def _substituted(text: str) -> str:
    """`$NAME` by what the script sets it to, and quotients of whole numbers worked out."""
    names = {name: value.strip("\"'") for name, value in _ASSIGNMENT.findall(text)}
    text = re.sub(r"\$\{?([A-Za-z_]\w*)\}?", lambda found: names.get(found[1], found[0]), text)
    return _EXPRESSION.sub(_worked_out, text)


def _worked_out(found: re.Match[str]) -> str:
    left, right = int(found[1][:9]), int(found[3][:9])
    if found[2] == "/":
        return str(left // right) if right else found[0]
    return str({"*": left * right, "+": left + right, "-": left - right}[found[2]])


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
