"""The settings that hold reward modelling to dry runs of TRL's own RewardTrainer.compute_loss.

python -m tests.planner.step.tables.reward_settings [WORD ...] | python -m planner.probe.recording.agreement
"""

import sys
from typing import Any

from tests.planner.step.models import config
from tests.planner.step.tables.preference_settings import METHODS, OFF, WIDE
from tests.planner.step.tables.settings import ATTENTION, LLAMA, print_table, setting

FAMILIES = ("qwen2 tied", "qwen3", "mistral", "gemma2", "phi3")


def all_settings() -> list[dict[str, Any]]:
    """Every method, checkpointed and not; several pairs; other families."""
    found = []
    for name, method in METHODS.items():
        found += [_reward(name, {}, **method), _reward(f"{name} off", OFF, **method)]
    trl = {"stack": "trl"}
    found += [
        _reward("batch 3", {"per_device_train_batch_size": 3}, **trl),
        _reward("batch 3 padded off", {"per_device_train_batch_size": 3, "padded": True, **OFF}, **trl),
        _reward("accumulation", {"gradient_accumulation_steps": 4}, **trl),
        _reward("full accumulation", {"gradient_accumulation_steps": 4}, stack="trl", method="full"),
        _reward("kbit", {}, stack="kbit"),
        _reward("trainer off", OFF, stack="trainer"),
        _reward("attention off", OFF, lora={"target_modules": ATTENTION}, **trl),
        setting("reward wide", WIDE, {"objective": "reward"}, **trl),
    ]
    for name in FAMILIES:
        full = {"stack": "trl", "method": "full"}
        found.append(setting(f"reward {name}", config(name), {"objective": "reward"}, **trl))
        found.append(setting(f"reward {name} full off", config(name), {"objective": "reward", **OFF}, **full))
    return found


def _reward(name: str, training: dict[str, Any], **more: Any) -> dict[str, Any]:
    return setting(f"reward {name}", LLAMA, {"objective": "reward", **training}, **more)


if __name__ == "__main__":
    print_table(all_settings(), sys.argv[1:])
