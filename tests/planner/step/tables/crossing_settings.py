"""Settings that random crossings found formula and dry run apart on, each kept for the tensor that was missing.

    python -m tests.planner.step.tables.crossing_settings [WORD ...]
"""

import sys
from typing import Any

from tests.planner.step.models import config
from tests.planner.step.tables.settings import LLAMA, QV, print_table, setting

INT8 = {"load_in_8bit": True}
HALF = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "float16"}
SHORT = {"max_length": 512}
OFF = {**SHORT, "gradient_checkpointing": False}
EAGER = {**SHORT, "attn_implementation": "eager", "per_device_train_batch_size": 3}
REENTRANT = {**SHORT, "use_reentrant": True}


def eight_bit_settings() -> list[dict[str, Any]]:
    """bitsandbytes keeps the input of each 8-bit product until the graph dies."""
    return [
        setting("llama kbit int8 eager", LLAMA, EAGER, quantization=INT8, stack="kbit", lora={"target_modules": QV}),
        setting("llama loop int8 off", LLAMA, OFF, quantization=INT8, stack="loop"),
        setting("llama trl int8 reentrant", LLAMA, REENTRANT, quantization=INT8, stack="trl"),
        setting(
            "bloom loop int8 reentrant", config("bloom"), {**REENTRANT, "per_device_train_batch_size": 3},
            quantization=INT8, stack="loop",
        ),
    ]  # fmt: skip


def eager_settings() -> list[dict[str, Any]]:
    """Several sequences are copied into one dimension; BLOOM, Falcon and gpt-oss write their own scores."""
    off, again = {**EAGER, "gradient_checkpointing": False}, {**EAGER, "use_reentrant": True}
    two, dora = {**SHORT, "per_device_train_batch_size": 2}, {"use_dora": True}
    return [
        setting("mistral kbit eager q,v off", config("mistral"), off, stack="kbit", lora={"target_modules": QV}),
        setting("phi loop eager", config("phi"), EAGER, stack="loop"),
        setting("bloom trainer eager", config("bloom"), EAGER),
        setting("falcon trainer eager", config("falcon"), EAGER),
        setting("falcon kbit eager off", config("falcon"), off, stack="kbit"),
        setting("falcon new loop eager reentrant", config("falcon new"), again, stack="loop"),
        setting("gpt_oss trl dora", config("gpt_oss"), two, stack="trl", lora=dora),
    ]  # fmt: skip


def whole_settings() -> list[dict[str, Any]]:
    """A head that is the embedding has one gradient, of two that meet; xIELU's scalars are trained.

    The Trainer keeps embeddings' optimizer state in 32 bit.
    """
    adafactor = {**REENTRANT, "optim": "adafactor"}
    return [
        setting("qwen2 tied trl full off", config("qwen2 tied"), OFF, method="full", stack="trl"),
        setting(
            "qwen2 tied trainer full accumulation", config("qwen2 tied"), {**SHORT, "gradient_accumulation_steps": 2},
            method="full",
        ),
        setting("starcoder2 loop full", config("starcoder2"), adafactor, method="full", stack="loop"),
        setting("opt trainer full eager", config("opt"), EAGER, method="full"),
        setting("qwen2 trainer full 8-bit optimizer", config("qwen2"), {**SHORT, "optim": "adamw_8bit"}, method="full"),
        setting("apertus loop full off", config("apertus"), OFF, method="full", stack="loop"),
    ]  # fmt: skip


def other_settings() -> list[dict[str, Any]]:
    """Layers before the first that trains something; adapters of the other 16-bit dtype under autocast."""
    down = {"lora": {"target_modules": ["down_proj"]}}
    return [
        setting("deepseek_v3 trainer down off", config("deepseek_v3"), OFF, quantization=INT8, **down),
        setting("glm4_moe loop down off", config("glm4_moe"), OFF, stack="loop", **down),
        setting("granite trl float16", config("granite"), SHORT, quantization=HALF, stack="trl", lora={"r": 200}),
    ]


def all_settings() -> list[dict[str, Any]]:
    """The whole table."""
    return eight_bit_settings() + eager_settings() + whole_settings() + other_settings()


if __name__ == "__main__":
    print_table(all_settings(), sys.argv[1:])
