"""Trainers' own names for the flags of a run: `--per_device_train_batch_size 4` is `--batch 4`.

A flag also answers to its field's name in a request, and to the keys that trainers' files have for it, in either
spelling of `-` and `_`. The names are those of the tables that read such files (app/imports/dialects).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand

from app.cli.flags import FLAGS, Flag

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
# Names of a storage, which --quant-type writes out.
_STORAGES = {"load_in_4bit": "nf4", "load_in_8bit": "int8"}
_QUANT_TYPE = "--quant-type"


class CommandOfARun(TyperCommand):
    """A command whose flags answer to trainers' names, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words, respelled."""
        own = {option for parameter in self.params for option in parameter.opts}
        return super().parse_args(ctx, list(respelled(args, own)))


def respelled(words: Sequence[str], own: Collection[str]) -> Iterator[str]:
    """The words with each option as the command has it; `own` are the command's options.

    Raises:
        typer.BadParameter: a flag and another name for it say two things, or a trainer's key has no flag.
    """
    said: dict[str, tuple[str, str]] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            yield from (word, *left)
            return
        name, is_inline, value = word.partition("=")
        if not name.startswith("--"):
            yield word
            continue
        flag = _flag(name, own)
        if flag is None:
            yield name.replace("_", "-") + is_inline + value  # the command's own, or what it complains about
        elif isinstance(flag, str):
            if _switched(name, value if is_inline else _taken(left)):
                yield _said_once(said, _QUANT_TYPE, name, flag)
            elif flag == _STORAGES["load_in_4bit"]:
                raise typer.BadParameter(f"{name}: false is said by --method lora or {_QUANT_TYPE} int8; leave it out")
        elif flag.kind is bool:
            yield _switch_of(flag, name, _switched(name, value if is_inline else _taken(left)), own)
        else:
            given = value if is_inline or not left else left.pop(0)
            yield _said_once(said, flag.option, name, given)


def _said_once(said: dict[str, tuple[str, str]], option: str, name: str, given: str) -> str:
    before = said.setdefault(option, (name, given))
    if before[1] != given:
        raise typer.BadParameter(f"{before[0]} {before[1]} and {name} {given} are both {option}; keep one")
    return f"{option}={given}"


def _flag(name: str, own: Collection[str]) -> Flag | str | None:
    """The flag that a name stands for, the storage that it names, or None for the command's own and for unknown ones.

    Raises:
        typer.BadParameter: a trainer's key that no flag stands for.
    """
    hyphened, key = name.replace("_", "-"), name.removeprefix("--").replace("-", "_")
    if hyphened in own:
        return next((flag for flag in FLAGS if flag.option == hyphened and flag.kind is not bool), None)
    if key in _STORAGES:
        return _STORAGES[key]
    flag = _of_other_names().get(key)
    if flag is None and _is_a_trainers(key):
        raise typer.BadParameter(
            f"{name}: no flag says this; plan the file, script or command line that has it: fitproof plan run.sh"
        )
    return flag


def _switch_of(flag: Flag, name: str, value: bool, own: Collection[str]) -> str:
    """The switch that sets the same field so."""
    switches = (other for other in FLAGS if other.path == flag.path and other.constant is value and other.option in own)
    found = next(switches, None)
    if found is None:
        raise typer.BadParameter(f"{name}: is {str(value).lower()} unless a file says otherwise; leave it out")
    return found.option


def _taken(left: list[str]) -> str:
    """The value behind a switch, if one stands there."""
    return left.pop(0) if left and left[0].lower() in _WORDS else "true"


def _switched(name: str, value: str) -> bool:
    if value.lower() not in _WORDS:
        raise typer.BadParameter(f"{name}: write true or false")
    return _WORDS[value.lower()]


def _of_other_names() -> Mapping[str, Flag]:
    """The flag of each name: fields' own names first, then keys of trainers' files that stand for the same value."""
    from app.imports.dialects import TRAINERS
    from app.imports.numbers import as_number
    from app.imports.rules import listed, same

    by_path = {flag.path: flag for flag in FLAGS}
    found: dict[str, Flag] = {}
    for path, flag in by_path.items():
        section, _, name = path.rpartition(".")
        found.setdefault(name, flag)
        if section == "lora":
            found.setdefault(f"lora_{name.removeprefix('lora_')}", flag)
    for trainer in TRAINERS:
        for rule in trainer.rules:
            if rule.read in (same, listed, as_number) and rule.path in by_path and "." not in rule.key:
                found.setdefault(rule.key, by_path[rule.path])
    return found


def _is_a_trainers(key: str) -> bool:
    from app.imports.dialects import TRAINERS

    return any(trainer.knows(key) for trainer in TRAINERS)
