"""A trainer's command line as settings: `llamafactory-cli train --stage sft …`. Words are split, never run."""

import json
import math
import re
import shlex
from collections.abc import Collection
from typing import Any

from app.imports.allocator import VARIABLES
from app.imports.sources.launchers import as_settings, beside, launched
from app.imports.sources.programs import program_refusal, settings_file

_OPTION = re.compile(r"(?:^|\s)--[A-Za-z]")
_ASSIGNMENT = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)=(\"[^\"]*\"|'[^']*'|[^\s;&|]*)", re.MULTILINE)
# What stands before a program in a shell, a notebook's cell or a cluster's script.
_BEFORE = r"^\s*[!%$]?\s*(?:(?:\w+=\S*|nohup|sudo|exec|time|env|uv\s+run|poetry\s+run|srun(?:\s+-\S+(?:\s+\d+)?)*)\s+)*"
_COMMAND = re.compile(
    _BEFORE + r"(?P<program>llamafactory-cli|lmf|trl|axolotl|swift|megatron|litgpt|autotrain|tune|oumi|unsloth|"
    r"accelerate|torchrun|python3?|deepspeed)\s+(?P<first>\S+)"
)
# A line up to a comment: a `#` inside a word or a quote begins none (`--dataset alpaca-zh#500`).
_UNTIL_COMMENT = re.compile(r"""(?:[^'"#]|(?<=\S)#|'[^']*'|"(?:\\.|[^"\\])*")*""")
# Where a shell's command ends: a pipe, a redirection, `&&`, `;`.
_OPERATOR = re.compile(r"\d?[<>]|[|&;]")
_SCRIPT = re.compile(r"(?:^|\s)(?:\S*/)?(\w+)\.py(?:\s|$)")
_MODULE = re.compile(r"\s-m\s+(?:\w+\.)*(\w+)")
# `$(expr 32 / 4 / 2)` and `$((32 / 4))` of whole numbers.
_EXPRESSION = re.compile(r"\$\((?:expr\s+|\(\s*)(\d+(?:\s*[*/+-]\s*\d+)+)\s*\)?\)")
_WORDS = {"true": True, "false": False, "none": None, "null": None}
# Variables that say how a run is spread, and that its model sees pictures (ms-swift reads its pixels from there).
_COUNTS = ("NPROC_PER_NODE", "NNODES")
_DIGITS = 6
_SEES = ("MAX_PIXELS", "VIDEO_MAX_PIXELS", "FPS_MAX_FRAMES")
# What TRL has a command for; each has a configuration and a trainer of its name, too.
TRL_TRAININGS = frozenset({"sft", "dpo", "grpo", "kto", "reward", "rloo", "orpo", "cpo", "bco", "gkd", "ppo"})
# Subcommands that train, of the programs that have others, too.
_TRAINS: dict[str, Collection[str]] = {
    "llamafactory-cli": {"train"},
    "lmf": {"train"},
    "swift": {"sft", "pt", "rlhf"},
    "axolotl": {"train"},
    "megatron": set(),
    "trl": TRL_TRAININGS,
    "litgpt": {"finetune", "finetune_lora", "finetune_full", "finetune_adapter", "finetune_adapter_v2"},
    "autotrain": set(),
    "tune": set(),
    "oumi": set(),
    "unsloth": set(),
}


class NoTrainingError(ValueError):
    """A command that trains nothing, or trains in a way that no dialect stands for."""


def settings_of(text: str) -> dict[str, Any] | None:
    """The options of the first trainer's command in `text`, by their names; None where there is no such command.

    What is run stands under `command`: "trl dpo", or a script's name; variables that move memory under their names.

    Raises:
        NoTrainingError: the command is there, and trains nothing that is read here, or reads a file of its own.
    """
    refusal = ""
    for line in _substituted(text.replace("\\\n", " ")).splitlines():
        found = _COMMAND.match(line)
        if found is None:
            continue
        try:
            words = _words(line[found.start("program") :])
        except ValueError:  # a quote that does not end
            return None
        program, first = found["program"], found["first"]
        command = f"{program} {first}" if program in _TRAINS else _script(line) or program
        is_known = program not in _TRAINS or first in _TRAINS[program]
        folder = _positional(program, words)
        refused = settings_file(words)
        if _OPTION.search(line) or folder:
            refused = refused or program_refusal(command, is_known=is_known)
            if not refused:
                variables = _environment(text, line[: found.start("program")])
                return variables | _all_options(program, words) | folder | {"command": command}
        refusal = refusal or refused
    if refusal:
        raise NoTrainingError(refusal)
    return None


def _all_options(program: str, words: list[str]) -> dict[str, Any]:
    """The launcher's options as settings, beside the program's own."""
    before, own = launched(words)
    return beside(as_settings(program, _options(before)) if before else {}, _options(own))


def _words(line: str) -> list[str]:
    """The command's own words, without a comment and what the shell does with its output."""
    found = _UNTIL_COMMENT.match(line)
    end = found.end() if found else 0
    words = shlex.split(line[:end] if line[end : end + 1] == "#" else line)
    ends = next((place for place, word in enumerate(words) if _OPERATOR.match(word)), len(words))
    return words[:ends]


def _positional(program: str, words: list[str]) -> dict[str, str]:
    """`litgpt finetune_lora FOLDER`: what the file has as checkpoint_dir."""
    is_folder = program == "litgpt" and len(words) > 2 and not words[2].startswith("-")
    return {"checkpoint_dir": words[2]} if is_folder else {}


def _environment(text: str, before: str) -> dict[str, Any]:
    """Variables set in the script or before the command that say more than one card, or pictures."""
    names = dict(_ASSIGNMENT.findall(text)) | dict(re.findall(r"(\w+)=(\S+)", before))
    cards = {name: value for name, value in names.items() if name == "CUDA_VISIBLE_DEVICES" and "," in value}
    counts = {name: value.strip("\"'") for name, value in names.items() if name in _COUNTS}
    ranks: dict[str, Any] = {name: value for name, value in counts.items() if value != "1"}
    if "NPROC_PER_NODE" in counts and all(count.isdecimal() and len(count) < _DIGITS for count in counts.values()):
        ranks = {"num_processes": math.prod(map(int, counts.values()))}
    ranks |= {name: value.strip("\"'") for name, value in names.items() if name in VARIABLES}
    return cards | ranks | {name: value for name, value in names.items() if name in _SEES}


def _script(line: str) -> str:
    found = _SCRIPT.search(line) or _MODULE.search(line)
    return found[1] if found else ""


def _substituted(text: str) -> str:
    """`$NAME` by what the script sets it to, and quotients of whole numbers worked out."""
    names = {name: value.strip("\"'") for name, value in _ASSIGNMENT.findall(text)}
    text = re.sub(r"\$\{?([A-Za-z_]\w*)\}?", lambda found: names.get(found[1], found[0]), text)
    return _EXPRESSION.sub(_worked_out, text)


def _worked_out(found: re.Match[str]) -> str:
    """From left to right, where all operators are of one precedence; otherwise as it stands."""
    first, *rest = re.findall(r"\d+|[*/+-]", found[1])
    value, operators = int(first[:9]), rest[::2]
    if not (set(operators) <= {"*", "/"} or set(operators) <= {"+", "-"}):
        return found[0]
    for operator, number in zip(operators, (int(digits[:9]) for digits in rest[1::2]), strict=True):
        if operator == "/" and number == 0:
            return found[0]
        value = {"*": value * number, "+": value + number, "-": value - number, "/": value // (number or 1)}[operator]
    return str(value)


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
    return dict(_setting(name, values) for name, values in found.items())


def _setting(name: str, values: list[str]) -> tuple[str, Any]:
    """A name and its value; `--no_NAME` alone is how transformers' HfArgumentParser turns a switch off that is on."""
    if not values and name.startswith("no_"):
        return name.removeprefix("no_"), False
    return name, _value(values)


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
