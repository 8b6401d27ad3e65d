"""TRL's offloading of activations, which keeps the latest tensors across layers, so that these models are deep.

    python -m tests.planner.step.tables.offloading_settings [WORD ...] | python -m planner.probe.recording.agreement
"""

import sys
from typing import Any

from tests.planner.step.models import config
from tests.planner.step.tables.settings import ATTENTION, LLAMA, print_table, setting

DEEP = {**LLAMA, "num_hidden_layers": 9}
OFFLOADED = {"activation_offloading": True}
TWICE = {"gradient_accumulation_steps": 2}


def all_settings() -> list[dict[str, Any]]:
    """The whole table."""
    found = []
    for stack in ("trl", "trainer", "kbit", "loop"):
        full = {**OFFLOADED, "loss": "full_logits"}
        found += [
            setting(f"llama {stack} offloading", DEEP, full, stack=stack),
            setting(f"llama {stack} offloading chunked", DEEP, {**OFFLOADED, "loss": "chunked"}, stack=stack),
            setting(f"llama {stack} offloading lora", DEEP, full, stack=stack, method="lora"),
            setting(f"llama {stack} offloading accumulation", DEEP, {**full, **TWICE}, stack=stack),
        ]
    trl = [
        ("short", {"max_length": 200}, {}),
        ("few words", {"max_length": 100}, {}),
        ("batch 3", {"per_device_train_batch_size": 3}, {}),
        ("padded", {"per_device_train_batch_size": 2, "padded": True}, {}),
        ("packing", {"packing": True, "per_device_train_batch_size": 2}, {}),
        ("liger", {"loss": "liger"}, {}),
        ("eager", {"attn_implementation": "eager"}, {}),
        ("full", {}, {"method": "full"}),
        ("full liger", {"loss": "liger"}, {"method": "full"}),
        ("full accumulation", TWICE, {"method": "full"}),
        ("neftune", {"neftune_noise_alpha": 5.0}, {}),
        ("dora", {}, {"lora": {"use_dora": True}}),
        ("modules to save", {}, {"lora": {"modules_to_save": ["lm_head", "embed_tokens"]}}),
        ("dpo", {"objective": "dpo"}, {}),
    ]
    found += [
        setting(f"llama trl offloading {name}", DEEP, {**OFFLOADED, **training}, stack="trl", **more)
        for name, training, more in trl
    ]
    deep, attention = {"num_hidden_layers": 8}, {"target_modules": ATTENTION}
    found += [
        setting(f"{name} trl offloading", {**config(name), **deep}, OFFLOADED, stack="trl")
        for name in ("qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "phi3", "olmo2", "opt")
    ]
    found += [
        setting(f"{name} trl offloading", {**config(name), **deep}, OFFLOADED, stack="trl", lora=attention)
        for name in ("mixtral", "gpt_oss", "deepseek_v3")
    ]
    return found


if __name__ == "__main__":
    print_table(all_settings(), sys.argv[1:])
