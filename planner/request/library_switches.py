"""What a pasted config.json may not decide: how the libraries run the model it describes."""

from typing import Any

# What a config says to transformers about how to run it rather than what it is; the request says that itself.
_RUN_SWITCHES = {"attn_implementation", "experts_implementation"}


def without_switches(config: dict[str, Any]) -> dict[str, Any]:
    """Drop what would make the libraries run something else than the formulas plan: private keys and switches.

    `_name_or_path` stays: it names the model, and moves nothing.
    """
    return {
        key: without_switches(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in _RUN_SWITCHES and (not key.startswith("_") or key == "_name_or_path")
    }
