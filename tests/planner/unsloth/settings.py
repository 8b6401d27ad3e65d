"""The settings that hold the stack `unsloth` to dry runs of Unsloth itself.

    python -m tests.planner.unsloth.settings CAPABILITY [WORD ...]

prints one JSON line per setting of this compute capability whose name holds every word.
"""

import sys
from typing import Any

from planner.units import GIB
from tests.planner.step.models import config
from tests.planner.step.tables.settings import LLAMA, print_table

# Two of each kind of loss: Unsloth tells cards of at most 24.5 GiB from larger ones.
MEMORY = {"8.9": 24 * GIB, "8.0": 80 * GIB, "9.0": 80 * GIB, "7.5": 15 * GIB}
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ALL = {"target_modules": LINEAR}
# Hidden states of 2 MiB and less are not offloaded.
LONG = {"max_length": 4096}
OFF, PLAIN = {"gradient_checkpointing": False}, {"gradient_checkpointing": True}
WIDE = {**LLAMA, "vocab_size": 128_256}
DEEP = {**LLAMA, "num_hidden_layers": 7}


def _setting(name: str, model: dict[str, Any], training: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    capability = more.pop("capability", "8.9")
    options = {"max_length": 2048, "optim": "adamw_8bit", "gradient_checkpointing": "unsloth", **(training or {})}
    card = {"total_memory_bytes": MEMORY[capability], "compute_capability": capability}
    request = {"model": model, "gpu": card, "training": options, "stack": "unsloth", "lora": ALL, **more}
    if capability == "7.5":  # which has no bfloat16
        request["quantization"] = {"bnb_4bit_compute_dtype": "float16"}
    return {"name": name, "request": request}


def _on_24_gib() -> list[dict[str, Any]]:
    found = [
        _setting("llama", LLAMA),
        _setting("llama long", LLAMA, LONG),
        _setting("llama deep long", DEEP, LONG),
        _setting("llama deep long r 64", DEEP, LONG, lora={**ALL, "r": 64}),
        _setting("llama short", LLAMA, {"max_length": 600}),
        _setting("llama plain", LLAMA, PLAIN),
        _setting("llama off", LLAMA, OFF),
        _setting("llama batch 2", LLAMA, {"per_device_train_batch_size": 2}),
        _setting("llama batch 3 padded", LLAMA, {"per_device_train_batch_size": 3, "padded": True}),
        _setting("llama accumulation", LLAMA, {"gradient_accumulation_steps": 4}),
        _setting("llama accumulation off", LLAMA, {"gradient_accumulation_steps": 2, **OFF}),
        _setting("llama batch 2 accumulation plain", LLAMA, {"gradient_accumulation_steps": 2, **PLAIN}),
        _setting("llama q,v", LLAMA, lora={"target_modules": ["q_proj", "v_proj"]}),
        _setting("llama q,v off", LLAMA, OFF, lora={"target_modules": ["q_proj", "v_proj"]}),
        _setting("llama attention off", LLAMA, OFF, lora={"target_modules": LINEAR[:4]}),
        _setting("llama dropout", LLAMA, lora={**ALL, "lora_dropout": 0.05}),
        _setting("llama dropout off", LLAMA, OFF, lora={**ALL, "lora_dropout": 0.05}),
        _setting("llama wide", WIDE, LONG),
        _setting("llama tied off", {**WIDE, "tie_word_embeddings": True}, OFF),
        _setting("llama fused adamw", LLAMA, {"optim": "adamw_torch_fused"}),
        _setting("llama lora", LLAMA, method="lora"),
        _setting("llama lora long", DEEP, LONG, method="lora"),
        _setting("llama lora off", LLAMA, OFF, method="lora"),
        _setting("llama lora plain accumulation", LLAMA, {**PLAIN, "gradient_accumulation_steps": 4}, method="lora"),
        _setting("llama mha off", {**LLAMA, "num_key_value_heads": 8}, OFF),
    ]
    for family in ("qwen2", "qwen2 tied", "qwen3", "mistral", "gemma"):
        found += [
            _setting(family, config(family), LONG),
            _setting(f"{family} off", config(family), OFF),
            _setting(f"{family} lora", config(family), PLAIN, method="lora"),
        ]
    return found


def _elsewhere() -> list[dict[str, Any]]:
    found = []
    for capability in ("8.0", "9.0", "7.5"):
        found += [
            _setting(f"llama on {capability}", LLAMA, capability=capability),
            _setting(f"llama on {capability} long wide", {**WIDE, "num_hidden_layers": 7}, LONG, capability=capability),
            _setting(f"llama on {capability} plain", LLAMA, PLAIN, capability=capability),
            _setting(f"qwen3 on {capability} off", config("qwen3"), OFF, capability=capability),
        ]
    return found


def all_settings() -> list[dict[str, Any]]:
    """The whole table."""
    return [*_on_24_gib(), *_elsewhere()]


if __name__ == "__main__":
    chosen = [line for line in all_settings() if line["request"]["gpu"]["compute_capability"] == sys.argv[1]]
    print_table(chosen, sys.argv[2:])
