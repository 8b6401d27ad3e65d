"""Reading a Hugging Face `config.json`: known spellings, class defaults, and every problem named at once."""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from planner.errors import FieldProblem, InvalidRequestError

# More than any model published so far: what is above is a typing mistake.
_LARGEST_DIMENSION = 1 << 24
# Llama 3.1 405B has 126. Every layer is traced, so a server must not be asked for millions.
_MOST_LAYERS = 1024


@cache
def class_defaults() -> dict[str, Any]:
    """What transformers' config classes say where a config is silent (planner/probe/recording/config_defaults.py)."""
    text = files("planner.families").joinpath("defaults.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


class Fields:
    """Typed reads of one config. Problems are collected; `check` raises them together."""

    def __init__(self, model_type: str, config: Mapping[str, Any]) -> None:
        table = class_defaults()
        # InternLM 3 has no class of its own; AutoModelForCausalLM builds Llama from it.
        row = table.get(model_type) or table["llama"]
        spelled = {alias: own for alias, own in row["attribute_map"].items() if alias in config}
        self.model_type = model_type
        self.values: dict[str, Any] = dict(row["defaults"])
        self.values.update(config)
        self.values.update({own: config[alias] for alias, own in spelled.items()})
        self.problems: list[FieldProblem] = []

    def count(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """A whole number under the first of `names` that is given; None falls back to `default`."""
        for name in names:
            value = self.values.get(name)
            if value is None:
                continue
            counts_layers = "layer" in name and "per_layer" not in name
            most = _MOST_LAYERS if counts_layers else _LARGEST_DIMENSION
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                self.problem(name, f"must be a whole number from {least} to {most}, not {repr(value)[:60]}")
                return max(1, least)
            return value
        if default is None:
            self.problem(names[0], f"is missing; a {self.model_type} config needs it")
            return max(1, least)
        return default

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean; None and absence mean `default`."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.problem(name, f"must be true or false, not {value!r}")
        return bool(value)

    def text(self, *names: str, default: str) -> str:
        """A word, such as an activation."""
        for name in names:
            if isinstance(self.values.get(name), str):
                return str(self.values[name])
        return default

    def list_of(self, name: str, length: int) -> tuple[Any, ...] | None:
        """A list with one entry per layer, or None where the config has none."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or len(value) != length:
            self.problem(name, f"must be a list of {length} entries, one per layer")
            return None
        return tuple(value)

    def places(self, name: str) -> frozenset[int] | None:
        """A list of layers by their index, or None where the config has none."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or any(type(index) is not int for index in value):
            self.problem(name, f"must be a list of layers by index, such as [0, 1], not {repr(value)[:60]}")
            return None
        return frozenset(value)

    def number(self, name: str) -> float | None:
        """A number that may be absent."""
        value = self.values.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        # An int beyond every float is no number anybody meant.
        return float(value) if abs(value) < 1e300 else None

    def problem(self, name: str, message: str) -> None:
        """Note a bad field; it is named under `model`, where the caller pasted the config."""
        self.problems.append(FieldProblem(f"model.{name}", message))

    def check(self) -> None:
        """Raise what was found.

        Raises:
            InvalidRequestError: names every missing or bad key.
        """
        if self.problems:
            raise InvalidRequestError(f"The {self.model_type} config cannot be used.", self.problems)
