"""Keys of trainers' files that are no part of a plan, read from `keys/*.toml`: those without an effect on memory, and
those that move memory, with what they do to it.

A name with `*` stands for every key that it matches, `profiler.*` for a whole section.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.imports import effects
from app.imports.effects import Effect
from planner.answer.not_planned import Least
from planner.lazy_attribute import lazy_attribute

FOLDER = Path(__file__).parent / "keys"
_EFFECTS = {name.lower(): effect for name, effect in vars(effects).items() if isinstance(effect, Effect)}
_LEAST: Mapping[str, Callable[[Any], Least | None]] = {
    "card_share": effects.card_share, "second_model": effects.second_model,
}  # fmt: skip


class _Row(BaseModel):
    """Keys with one effect: one of effects.py by its name, or `why` in words and what it does to the answer.

    `unless`: values without the effect, in lower case, `*` for anything.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    keys: str = Field(min_length=1)
    effect: str = ""
    why: str = ""
    planned: str = ""
    may_need_less: bool = False
    least: Literal["", "card_share", "second_model"] = ""
    unless: str = ""

    def found(self) -> Effect:
        """The effect in its own words, or by its name."""
        if bool(self.effect) == bool(self.why):
            raise ValueError(f"{self.keys[:60]}: give effect or why, and only one of them")
        if self.effect:
            return replace(_EFFECTS[self.effect], unless=tuple(self.unless.split()))
        unless = tuple(self.unless.split())
        return Effect(self.why, self.planned, saves=self.may_need_less, least=_LEAST.get(self.least), unless=unless)


class _Table(BaseModel):
    """One dialect's file. `includes`: dialects whose keys this one has, too; its own rows come first."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    includes: list[str] = []
    no_effect: str = ""
    moves_memory: list[_Row] = []


@dataclass(frozen=True)
class IgnoredKeys:
    """A dialect's keys that are no part of a plan."""

    no_effect: frozenset[str] = frozenset()
    moves_memory: Mapping[str, Effect] = field(default_factory=dict)

    def has_no_effect(self, key: str) -> bool:
        """Whether the key is known not to move memory."""
        return key in self.no_effect or any(fnmatchcase(key, pattern) for pattern in self._without_effect)

    def effect(self, key: str) -> Effect | None:
        """What the key does to memory; None where it is not known to do anything."""
        if key in self.moves_memory or key in self.no_effect:
            return self.moves_memory.get(key)
        return next((found for pattern, found in self._moving if fnmatchcase(key, pattern)), None)

    @lazy_attribute
    def _without_effect(self) -> list[str]:
        return [name for name in self.no_effect if "*" in name]

    @lazy_attribute
    def _moving(self) -> list[tuple[str, Effect]]:
        return [(name, found) for name, found in self.moves_memory.items() if "*" in name]

    @lazy_attribute
    def names(self) -> frozenset[str]:
        """Every key and pattern of both kinds."""
        return self.no_effect | self.moves_memory.keys()


@cache
def ignored_keys(dialect: str) -> IgnoredKeys:
    """The table `keys/<dialect>.toml` with what it includes.

    Raises:
        ValueError: a row has two effects or none, or a key stands twice in the file.
    """
    table = _Table.model_validate(tomllib.loads((FOLDER / f"{dialect}.toml").read_text(encoding="utf-8")))
    harmless = table.no_effect.split()
    moving = [(key, row.found()) for row in table.moves_memory for key in row.keys.split()]
    named = [*harmless, *(key for key, _ in moving)]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise ValueError(f"{dialect}.toml: {', '.join(twice)}: named twice; keep one")
    own = IgnoredKeys(frozenset(harmless), dict(moving))
    for other in map(ignored_keys, table.includes):
        own = IgnoredKeys(
            own.no_effect | (other.no_effect - own.moves_memory.keys()),
            {
                **{key: found for key, found in other.moves_memory.items() if key not in own.no_effect},
                **own.moves_memory,
            },
        )
    return own
