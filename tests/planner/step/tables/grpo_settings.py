"""The settings that hold GRPO to dry runs of TRL's own trainer: it generates, scores and computes its loss itself.

python -m tests.planner.step.tables.grpo_settings [WORD ...] | python -m planner.probe.recording.agreement
"""

import sys
from typing import Any

from tests.planner.step.models import config
from tests.planner.step.tables.preference_settings import METHODS, OFF, WIDE
from tests.planner.step.tables.settings import LLAMA, print_table, setting

FAMILIES = ("qwen2 tied", "qwen3", "mistral", "gemma2", "phi3")
# Eight groups of completions at a time where generation is the peak of a step's forwards.
MANY = {"gradient_accumulation_steps": 16}
BETA = {"beta": 0.04}


def all_settings() -> list[dict[str, Any]]:
    """Every method, with and without a reference, checkpointed and not; generation that takes more than training."""
    found = []
    for name, method in METHODS.items():
        found += [
            _grpo(name, {}, **method),
            _grpo(f"{name} off beta", {**OFF, **BETA}, **method),
            _grpo(f"{name} many", MANY, **method),
        ]
    trl = {"stack": "trl"}
    found += [
        _grpo("dropout off", OFF, lora={"lora_dropout": 0.05}, **trl),
        _grpo("dropout many", MANY, lora={"lora_dropout": 0.05}, **trl),
        _grpo("iterations off", {**OFF, "num_iterations": 2}, **trl),
        _grpo("padded", {"padded": True}, **trl),
        _grpo("padded many", {"padded": True, **MANY}, **trl),
        _grpo("kbit beta", BETA, stack="kbit"),
        setting("grpo wide many", WIDE, {**SHORT, **MANY, **BETA}, **trl),
        setting("grpo wide lora many", WIDE, {**SHORT, **MANY}, stack="trl", method="lora"),
        setting("grpo wide full many", WIDE, {**SHORT, **MANY}, stack="trl", method="full"),
    ]
    for name in FAMILIES:
        full = {"stack": "trl", "method": "full"}
        found.append(setting(f"grpo {name} many", config(name), {**SHORT, **MANY}, **trl))
        found.append(setting(f"grpo {name} full off", config(name), {**SHORT, **OFF}, **full))
    return found


SHORT = {"objective": "grpo", "per_device_train_batch_size": 4, "max_length": 256, "max_completion_length": 32}


def _grpo(name: str, training: dict[str, Any], **more: Any) -> dict[str, Any]:
    return setting(f"grpo {name}", LLAMA, {**SHORT, **training}, **more)


if __name__ == "__main__":
    print_table(all_settings(), sys.argv[1:])
