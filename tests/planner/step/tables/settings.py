"""The settings that hold formulas to dry runs: small models of realistic widths, every switch that moves bytes.

    python -m tests.planner.step.tables.settings [WORD ...]

prints one JSON line per setting whose name holds every word.
"""

import json
import sys
from typing import Any

from tests.planner.step.models import MODELS, config

CARD = {"total_memory_bytes": 25_757_220_864, "compute_capability": "8.9"}
LLAMA = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 8000, "tie_word_embeddings": False,
}  # fmt: skip
QV = ["q_proj", "v_proj"]
MIXTURES = (
    "mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "phimoe", "granitemoe", "minimax_m2", "glm4_moe", "gpt_oss",
    "llama4_text", "deepseek_v2", "deepseek_v3", "glm4_moe_lite",
)  # fmt: skip
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


def setting(name: str, model: dict[str, Any], training: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """One line: a request on a 24 GB card of capability 8.9, 1024 tokens, fused AdamW."""
    options = {"max_length": 1024, "optim": "adamw_torch_fused", **(training or {})}
    return {"name": name, "request": {"model": model, "gpu": CARD, "training": options, **more}}


def llama_settings() -> list[dict[str, Any]]:
    """Every switch on one Llama."""
    found = []
    padded = {"per_device_train_batch_size": 2, "padded": True}
    grouped = {**LLAMA, "num_key_value_heads": 8}
    for stack in ("trainer", "trl", "kbit", "loop"):
        full = {"loss": "full_logits"}
        off = {**full, "gradient_checkpointing": False}
        found += [
            setting(f"llama {stack}", LLAMA, full, stack=stack),
            setting(f"llama {stack} long", LLAMA, {**full, "max_length": 4096}, stack=stack),
            setting(f"llama {stack} as many key heads, long", grouped, {**full, "max_length": 2048}, stack=stack),
            setting(f"llama {stack} short", LLAMA, {**full, "max_length": 600}, stack=stack),
            setting(f"llama {stack} no checkpointing", LLAMA, off, stack=stack),
            setting(f"llama {stack} batch 3", LLAMA, {**full, "per_device_train_batch_size": 3}, stack=stack),
            setting(f"llama {stack} q,v", LLAMA, full, stack=stack, lora={"target_modules": QV}),
            setting(f"llama {stack} q,v no checkpointing", LLAMA, off, stack=stack, lora={"target_modules": QV}),
            setting(f"llama {stack} attention", LLAMA, full, stack=stack, lora={"target_modules": ATTENTION}),
            setting(f"llama {stack} dropout", LLAMA, full, stack=stack, lora={"lora_dropout": 0.05}),
            setting(f"llama {stack} dropout no checkpointing", LLAMA, off, stack=stack, lora={"lora_dropout": 0.05}),
            setting(f"llama {stack} eager", LLAMA, {**full, "attn_implementation": "eager"}, stack=stack),
            setting(f"llama {stack} eager off", LLAMA, {**off, "attn_implementation": "eager"}, stack=stack),
            setting(f"llama {stack} padded", LLAMA, {**full, **padded}, stack=stack),
            setting(f"llama {stack} padded off", LLAMA, {**off, **padded}, stack=stack),
            setting(f"llama {stack} accumulation", LLAMA, {**full, "gradient_accumulation_steps": 4}, stack=stack),
            setting(f"llama {stack} reentrant", LLAMA, {**full, "use_reentrant": True}, stack=stack),
            setting(f"llama {stack} rank 128", LLAMA, full, stack=stack, lora={"r": 128}),
            setting(f"llama {stack} dora", LLAMA, full, stack=stack, lora={"use_dora": True}),
            setting(f"llama {stack} lora", LLAMA, full, stack=stack, method="lora"),
            setting(f"llama {stack} lora off", LLAMA, off, stack=stack, method="lora"),
            setting(f"llama {stack} chunked", LLAMA, {"loss": "chunked"}, stack=stack),
            setting(f"llama {stack} liger", LLAMA, {"loss": "liger"}, stack=stack),
            setting(f"llama {stack} mha", grouped, full, stack=stack),
            setting(f"llama {stack} efficient", grouped, {**full, "sdpa_kernel": "mem_efficient"}, stack=stack),
            setting(f"llama {stack} math", LLAMA, {**full, "sdpa_kernel": "math"}, stack=stack),
        ]  # fmt: skip
    return found + _rare_settings()


def _rare_settings() -> list[dict[str, Any]]:
    """What few people set and what changes the most: full fine-tuning, other storages, other cards."""
    nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    off = {"gradient_checkpointing": False}
    half = {**nf4, "bnb_4bit_compute_dtype": "float16"}
    harness = {
        "model_dtype": "float16", "kbit_preparation": True, "autocast": None, "adapter_dtype": "float32",
        "outputs_kept": True,
    }  # fmt: skip
    found = [
        setting("llama trainer full", LLAMA, {}, method="full"),
        setting("llama trainer full off", LLAMA, off, method="full"),
        setting("llama loop full", LLAMA, {}, method="full", stack="loop"),
        setting("llama trainer full long", LLAMA, {"max_length": 4096, "loss": "chunked"}, method="full"),
        setting(
            "llama trainer no double quantization", LLAMA, quantization={**nf4, "bnb_4bit_compute_dtype": "bfloat16"}
        ),
        setting("llama trainer float32 compute", LLAMA, quantization={"load_in_4bit": True}),
        setting("llama trainer float16", LLAMA, quantization=half),
        setting("llama trainer float16 eager", LLAMA, {"attn_implementation": "eager"}, quantization=half),
        setting("llama outputs kept", LLAMA, stack=harness, quantization=half),
        setting("llama trainer int8", LLAMA, quantization={"load_in_8bit": True}),
        setting("llama trainer int8 off", LLAMA, off, quantization={"load_in_8bit": True}),
        setting("llama kbit int8", LLAMA, quantization={"load_in_8bit": True}, stack="kbit"),
        setting(
            "llama loop int8 q,v", LLAMA, quantization={"load_in_8bit": True}, stack="loop", lora={"target_modules": QV}
        ),
        setting("llama trainer flash_attention_2", LLAMA, {"attn_implementation": "flash_attention_2"}),
        *unpadded_settings(),
    ]
    for capability in ("7.5", "8.0", "8.6", "9.0", "12.0"):
        card = {"total_memory_bytes": 25_757_220_864, "compute_capability": capability}
        for length in (64, 200, 400):
            line = setting(
                f"llama trainer on {capability} length {length}", LLAMA, {"max_length": length}, quantization=half
            )
            line["request"]["gpu"] = card
            found.append(line)
    return found


def unpadded_settings() -> list[dict[str, Any]]:
    """FlashAttention 2 on padded batches, which it packs."""
    packed = {"attn_implementation": "flash_attention_2", "padded": True, "per_device_train_batch_size": 3}
    off, every = {**packed, "gradient_checkpointing": False}, {**LLAMA, "num_key_value_heads": 8}
    return [
        setting("llama trainer flash_attention_2 padded", LLAMA, packed),
        setting("llama trainer flash_attention_2 padded off", LLAMA, off),
        setting("llama kbit flash_attention_2 padded", LLAMA, packed, stack="kbit"),
        setting("llama loop flash_attention_2 padded off", LLAMA, off, stack="loop"),
        setting("llama trainer flash_attention_2 padded mha off", every, off),
    ]


def family_settings() -> list[dict[str, Any]]:
    """Every family, checkpointed and not; the attention-only adapters are the ones people use on mixtures."""
    found = []
    for name in MODELS:
        model, own = config(name), {"attn_implementation": "sdpa"} if "sdpa" in name else {}
        lora = {"lora": {"target_modules": ATTENTION}} if name in MIXTURES else {}
        off = {**own, "gradient_checkpointing": False}
        found += [
            setting(f"{name} trainer", model, own, **lora),
            setting(f"{name} trainer no checkpointing", model, off, **lora),
            setting(f"{name} kbit", model, own, stack="kbit", **lora),
            setting(f"{name} trl", model, own, stack="trl", **lora),
        ]
    return found


LIGER = (
    "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2", "olmo3", "granite", "smollm3",
    "glm4", "exaone4", "hunyuan_v1_dense",
)  # fmt: skip


def liger_settings() -> list[dict[str, Any]]:
    """Liger's kernels on the families that it patches, and on one that it leaves alone."""
    frozen = [setting(f"{name} liger", config(name), {"loss": "liger"}) for name in (*LIGER, "stablelm")]
    trained = [setting(f"{name} full liger", config(name), {"loss": "liger"}, method="full") for name in LIGER]
    return frozen + trained + trained_head_settings()


def trained_head_settings() -> list[dict[str, Any]]:
    """A head whose gradient Liger adds up chunk by chunk, large enough to be the peak, by a new card and an old one."""
    model = {**LLAMA, "num_hidden_layers": 2, "vocab_size": 64000}
    wide = {
        "model_dtype": "float32", "kbit_preparation": False, "adapter_dtype": "float32", "outputs_kept": False,
    }  # fmt: skip
    stacks = {
        "trainer": "trainer", "loop": "loop", "float32 autocast": {**wide, "autocast": "bfloat16"},
        "float32 loop": {**wide, "autocast": None},
    }  # fmt: skip
    found = []
    for capability in ("8.9", "7.5"):
        for name, stack in stacks.items():
            line = setting(
                f"llama {name} full liger head on {capability}", model, {"loss": "liger", "max_length": 256},
                method="full", stack=stack,
            )  # fmt: skip
            line["request"]["gpu"] = {**CARD, "compute_capability": capability}
            found.append(line)
    return found


def all_settings() -> list[dict[str, Any]]:
    """The whole table."""
    return llama_settings() + family_settings() + liger_settings()


def print_table(table: list[dict[str, Any]], words: list[str]) -> None:
    """Print a table of settings, or the part whose names hold every word."""
    for line in table:
        if all(word in line["name"] for word in words):
            sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    print_table(all_settings(), sys.argv[1:])
