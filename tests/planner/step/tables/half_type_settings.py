"""Runs with both 16-bit types: a float16 checkpoint under bfloat16 autocast, as Llama 2 with `bf16=True`, and others.

    python -m tests.planner.step.tables.half_type_settings [WORD ...]
"""

import sys
from typing import Any

from tests.planner.step.models import config
from tests.planner.step.tables.settings import LLAMA, QV, print_table, setting

HALVES = {
    "model_dtype": "float16", "kbit_preparation": False, "autocast": "bfloat16", "adapter_dtype": "float32",
    "outputs_kept": False,
}  # fmt: skip
REVERSED = {**HALVES, "model_dtype": "bfloat16", "autocast": "float16"}
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
SHORT = {"max_length": 512}
OFF = {**SHORT, "gradient_checkpointing": False}
EAGER = {**SHORT, "attn_implementation": "eager"}
FAMILIES = (
    "hunyuan_v1_dense", "opt", "olmoe", "cohere", "cohere2", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt2", "phi",
    "mixtral", "falcon", "granite", "olmo2", "gpt_neox", "starcoder2", "bloom", "gptj", "deepseek_v3", "glm4_moe",
    "mistral window", "stablelm", "phi3", "gpt_oss",
)  # fmt: skip


def llama_settings() -> list[dict[str, Any]]:
    """Every way in which one Llama can have both."""
    lora: dict[str, Any] = {"method": "lora", "stack": HALVES}
    narrow = {**HALVES, "adapter_dtype": "float16"}
    return [
        setting("llama halves", LLAMA, SHORT, **lora),
        setting("llama halves off", LLAMA, OFF, **lora),
        setting("llama halves eager off", LLAMA, {**EAGER, **OFF}, **lora),
        setting("llama halves batch 3", LLAMA, {**SHORT, "per_device_train_batch_size": 3}, **lora),
        setting("llama halves padded", LLAMA, {**SHORT, "per_device_train_batch_size": 2, "padded": True}, **lora),
        setting("llama halves reentrant", LLAMA, {**SHORT, "use_reentrant": True}, lora={"target_modules": QV}, **lora),
        setting("llama halves accumulation", LLAMA, {**SHORT, "gradient_accumulation_steps": 2}, **lora),
        setting("llama halves liger", LLAMA, {**SHORT, "loss": "liger"}, **lora),
        setting("llama halves chunked", LLAMA, {**SHORT, "loss": "chunked"}, **lora),
        setting("llama halves float16 adapters off", LLAMA, OFF, method="lora", stack=narrow),
        setting("llama halves dora", LLAMA, OFF, lora={"use_dora": True}, **lora),
        setting("llama halves reversed", LLAMA, SHORT, method="lora", stack=REVERSED),
        setting("llama halves reversed eager off", LLAMA, {**EAGER, **OFF}, method="lora", stack=REVERSED),
        setting("llama halves full", LLAMA, SHORT, method="full", stack=HALVES),
        setting("llama halves full off", LLAMA, OFF, method="full", stack=HALVES),
        setting("llama halves full liger", LLAMA, {**SHORT, "loss": "liger"}, method="full", stack=HALVES),
        setting("llama halves int8", LLAMA, SHORT, quantization={"load_in_8bit": True}, stack=HALVES),
        *(
            setting(
                f"llama halves nf4 {compute} kbit {prepared}", LLAMA, SHORT,
                quantization={**NF4, "bnb_4bit_compute_dtype": compute}, stack={**HALVES, "kbit_preparation": prepared},
            )
            for compute in ("float16", "bfloat16")
            for prepared in (False, True)
        ),
    ]  # fmt: skip


def family_settings() -> list[dict[str, Any]]:
    """LoRA with and without checkpointing, and full fine-tuning, of models written otherwise."""
    return [
        line
        for name in FAMILIES
        for line in (
            setting(f"{name} halves", config(name), SHORT, method="lora", stack=HALVES),
            setting(f"{name} halves off", config(name), OFF, method="lora", stack=HALVES),
            setting(f"{name} halves full", config(name), SHORT, method="full", stack=HALVES),
        )
    ]


def all_settings() -> list[dict[str, Any]]:
    """The whole table."""
    return llama_settings() + family_settings()


if __name__ == "__main__":
    print_table(all_settings(), sys.argv[1:])
