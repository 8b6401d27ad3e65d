"""Every optimizer that the environment has, on one Llama: adapters, and all weights.

    python -m tests.planner.step.tables.optimizer_settings [WORD ...] | python -m planner.probe.recording.agreement
"""

import sys
from typing import Any

from tests.planner.step.tables.settings import LLAMA, print_table, setting

OPTIMIZERS = (
    "adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "ademamix", "ademamix_8bit", "lion_32bit",
    "lion_8bit", "paged_lion_8bit", "rmsprop", "rmsprop_bnb_8bit", "adagrad", "adafactor", "sgd",
)  # fmt: skip


def all_settings() -> list[dict[str, Any]]:
    """The whole table."""
    return [
        setting(f"llama {method} {optim}", LLAMA, {"max_length": 256, "optim": optim}, method=method)
        for method in ("qlora", "full")
        for optim in OPTIMIZERS
    ]


if __name__ == "__main__":
    print_table(all_settings(), sys.argv[1:])
