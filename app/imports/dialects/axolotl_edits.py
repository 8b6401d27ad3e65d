"""Advised values as Axolotl's keys, where one setting takes more than one of them."""

from collections.abc import Callable
from typing import Any

from app.imports.rules import DEFAULT_LORA


def write_method(config: dict[str, Any], method: Any) -> None:
    """`adapter` and what it takes; a file that had none gets the plan's own rank and targets."""
    config["adapter"] = None if method == "full" else method
    if method == "qlora" or config.get("load_in_4bit"):
        config["load_in_4bit"] = method == "qlora"
    if method != "full":
        config["lora_r"] = config.get("lora_r") or DEFAULT_LORA.r
        if not config.get("lora_target_modules"):
            config["lora_target_linear"] = True


def write_four_bits(config: dict[str, Any], four: Any) -> None:
    """`load_in_4bit` goes with `adapter: qlora` alone."""
    config["load_in_4bit"] = four
    if four:
        config["adapter"] = "qlora"


def write_bnb(name: str, default: Any) -> Callable[[dict[str, Any], Any], None]:
    """What Axolotl's own bnb_config has already is not written."""

    def write(config: dict[str, Any], value: Any) -> None:
        given = config.get("bnb_config_kwargs")
        kwargs = dict(given) if isinstance(given, dict) else {}
        if kwargs.get(name, default) != value:
            config["bnb_config_kwargs"] = kwargs | {name: value}

    return write


def write_accumulation(config: dict[str, Any], steps: Any) -> None:
    """Axolotl takes either this or the whole batch_size."""
    config["gradient_accumulation_steps"] = steps
    if config.get("batch_size"):
        config["batch_size"] = None
