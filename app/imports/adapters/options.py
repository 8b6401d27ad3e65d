"""LoraConfig's options beyond rank and targets, under whichever names a trainer has for them."""

from typing import Any

from pydantic import ValidationError

from app.imports.rules import Rule, listed
from planner.request.lora import Lora
from planner.request.validation.messages import field_problems

# What trainers write where PEFT's own first values are meant (ms-swift, oumi), and where none are.
_SWITCHES = {"true": True, "default": True, "xavier": True, "none": True, "false": False, "random": False}


def adapter_options(**names: str) -> tuple[Rule, ...]:
    """Rules for options by their names in LoraConfig; a value that no formula plans is left out, with the reason."""
    return tuple(
        Rule(name, f"lora.{option}", _READ.get(option, _named), refused=_refused(option))
        for option, name in names.items()
    )


def _initialisation(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    word = value.lower().replace("-", "_")
    return _SWITCHES.get(word, word)


def _named(value: Any) -> Any:
    return listed(value) if isinstance(value, list | tuple) else value


_READ = {"init_lora_weights": _initialisation, "target_parameters": listed}
# Without which an option says nothing.
_BESIDE: dict[str, dict[str, Any]] = {"layers_pattern": {"layers_to_transform": 0}}


def _refused(option: str) -> Any:
    def why(value: Any) -> str:
        try:
            Lora.model_validate({option: value, **_BESIDE.get(option, {})})
        except ValidationError as error:
            return next(iter(field_problems(error.errors(include_url=False), ()))).message
        return ""

    return why
