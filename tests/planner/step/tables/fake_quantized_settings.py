"""Quantization-aware training by torchao, which needs `pip install --no-deps torchao`.

    python -m tests.planner.step.tables.fake_quantized_settings [WORD ...] | python -m planner.probe.recording.agreement
"""

import sys
from typing import Any

from tests.planner.step.models import config
from tests.planner.step.tables.settings import LLAMA, print_table, setting

QAT = {"qat": {"weight_dtype": "int4", "activation_dtype": "int8", "group_size": 32}}
WIDE_GROUPS = {"qat": {"weight_dtype": "int4", "activation_dtype": "int8", "group_size": 256}}


def all_settings() -> list[dict[str, Any]]:
    """The whole table: every weight trained, as torchao's recipes do."""
    found = []
    for stack in ("trl", "trainer", "loop"):
        full = {**QAT, "loss": "full_logits"}
        for name, training in (
            ("", full), ("off", {**full, "gradient_checkpointing": False}),
            ("chunked", {**QAT, "loss": "chunked"}), ("accumulation", {**full, "gradient_accumulation_steps": 2}),
        ):  # fmt: skip
            found.append(setting(f"llama {stack} qat {name}".strip(), LLAMA, training, stack=stack, method="full"))
    for name, training in (
        ("wide groups", WIDE_GROUPS), ("long", {**QAT, "max_length": 4096}), ("short", {**QAT, "max_length": 200}),
        ("batch 3", {**QAT, "per_device_train_batch_size": 3}), ("eager", {**QAT, "attn_implementation": "eager"}),
        ("bf16", QAT),
    ):  # fmt: skip
        found.append(setting(f"llama trl qat {name}", LLAMA, training, stack="trl", method="full"))
    families = ("qwen2", "qwen3", "gemma2")
    return found + [setting(f"{name} trl qat", config(name), QAT, stack="trl", method="full") for name in families]


if __name__ == "__main__":
    print_table(all_settings(), sys.argv[1:])
