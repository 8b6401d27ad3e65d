"""The settings that hold mixtures of experts and latent attention to dry runs; a small vocabulary, so that layers peak.

    python -m tests.planner.step.tables.mixture_settings [WORD ...] | python -m planner.probe.recording.agreement
"""

import sys
from typing import Any

from tests.planner.step.models import MODELS, config
from tests.planner.step.tables.settings import ATTENTION, MIXTURES, print_table, setting

SMALL = {"vocab_size": 1200, "pad_token_id": 0}
OFF = {"gradient_checkpointing": False}
ONLY_ATTENTION = {"lora": {"target_modules": ATTENTION}}
OLD_CARD = {"total_memory_bytes": 15_828_320_256, "compute_capability": "7.5"}
HALF = {
    "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "float16",
}  # fmt: skip
# PEFT wraps their routers, nn.Linear that return a tuple, and fails in the forward pass.
REFUSED = ("phimoe", "llama4_text")
# All that is special to them: softmax and sigmoid routers, biases and sinks, latent attention.
WHOLE = ("mixtral", "qwen2_moe", "gpt_oss", "deepseek_v2", "deepseek_v3")


INDEXED = {"model_type": "deepseek_v32", "index_n_heads": 4, "index_head_dim": 64, "index_topk": 256}


def small(name: str) -> dict[str, Any]:
    """The model with few words."""
    if name == "deepseek_v32":
        return {**config("deepseek_v3"), **SMALL, **INDEXED}
    return {**config(name), **SMALL}


def family(name: str) -> list[dict[str, Any]]:
    """Every stack, checkpointed and not, adapters on attention and on all linear layers."""
    model = small(name)
    found = [
        setting(f"{name} attention off", model, OFF, **ONLY_ATTENTION),
        setting(f"{name} attention kbit", model, stack="kbit", **ONLY_ATTENTION),
    ]
    if name in REFUSED:
        return found
    return [
        *found,
        setting(f"{name} all", model),
        setting(f"{name} all off", model, OFF),
        setting(f"{name} all loop off", model, OFF, stack="loop"),
        setting(f"{name} all trl", model, stack="trl"),
        setting(f"{name} all kbit", model, stack="kbit"),
        setting(f"{name} all lora", model, method="lora"),
    ]


def switches(name: str) -> list[dict[str, Any]]:
    """The other switches that move bytes."""
    model = small(name)
    heads = {"attn_implementation": "eager"} if name != "gpt_oss" else {}
    return [
        setting(f"{name} full", model, method="full"),
        setting(f"{name} full off", model, OFF, method="full"),
        setting(f"{name} padded", model, {"padded": True, "per_device_train_batch_size": 2}),
        setting(f"{name} eager off", model, {**OFF, **heads}),
        setting(f"{name} accumulation", model, {"gradient_accumulation_steps": 4}),
        setting(f"{name} batch 3", model, {"per_device_train_batch_size": 3, "max_length": 600}),
        setting(f"{name} long", model, {"max_length": 4096}),
        setting(f"{name} chunked", model, {"loss": "chunked"}),
        setting(f"{name} dropout off", model, OFF, lora={"target_modules": ATTENTION, "lora_dropout": 0.1}),
        setting(f"{name} old card", model, quantization=HALF, gpu=OLD_CARD),
    ]


def all_settings() -> list[dict[str, Any]]:
    """The whole table."""
    names = [*(name for name in MODELS if name in MIXTURES), "deepseek_v32"]
    wide = {**small("qwen3_moe"), "num_experts": 32, "num_experts_per_tok": 6, "moe_intermediate_size": 256}
    return [
        *(line for name in names for line in family(name)),
        *(line for name in WHOLE for line in switches(name)),
        setting("qwen3_moe wide", wide),
        setting("qwen3_moe wide off", wide, OFF, **ONLY_ATTENTION),
    ]


if __name__ == "__main__":
    print_table(all_settings(), sys.argv[1:])
