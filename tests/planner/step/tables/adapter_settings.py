"""The settings that hold LoraConfig's further options to dry runs: copies of whole modules, ranks, first values.

python -m tests.planner.step.tables.adapter_settings [WORD ...] | python -m planner.probe.recording.agreement
"""

import sys
from typing import Any

from tests.planner.step.models import config
from tests.planner.step.tables.settings import ATTENTION, LLAMA, print_table, setting

ENDS = {"modules_to_save": ["embed_tokens", "lm_head"]}
TIED = {**LLAMA, "tie_word_embeddings": True}
# A vocabulary whose ends outweigh the layers, as Gemma's.
WIDE = {**LLAMA, "num_hidden_layers": 2, "vocab_size": 128_256}
OFF = {"gradient_checkpointing": False}
STACKS = ("trainer", "trl", "kbit", "loop")


def whole_modules() -> list[dict[str, Any]]:
    """`modules_to_save`: both ends, one, norms; every stack, loss and storage; tied pairs; other families."""
    found = []
    for stack in STACKS:
        for method in ("qlora", "lora"):
            more = {"stack": stack, "method": method}
            found += [
                _whole(f"{stack} {method}", LLAMA, ENDS, {}, **more),
                _whole(f"{stack} {method} tied off", TIED, ENDS, OFF, **more),
            ]
        found += [
            _whole(f"{stack} head liger", LLAMA, {"modules_to_save": ["lm_head"]}, {"loss": "liger"}, stack=stack),
            _whole(f"{stack} embedding off", LLAMA, {"modules_to_save": ["embed_tokens"]}, OFF, stack=stack),
            _whole(f"{stack} norms", LLAMA, {"modules_to_save": ["embed_tokens", "norm"]}, {}, stack=stack),
            _whole(f"{stack} full logits wide", WIDE, ENDS, {"loss": "full_logits", "max_length": 256}, stack=stack),
        ]
    one = {**ENDS, "ensure_weight_tying": True}
    several = {"per_device_train_batch_size": 3}
    found += [
        _whole("trainer one copy of a tied pair", TIED, one, {}),
        _whole("trl one copy of a tied pair off", TIED, one, OFF, stack="trl", method="lora"),
        _whole("trainer padded", LLAMA, ENDS, {**several, "padded": True}),
        _whole("trainer accumulation", LLAMA, ENDS, {"gradient_accumulation_steps": 4}),
        _whole("trainer reentrant", LLAMA, ENDS, {"use_reentrant": True}),
        _whole("trainer paged_adamw_8bit", LLAMA, ENDS, {"optim": "paged_adamw_8bit"}),
        _whole("trainer adamw_8bit wide", WIDE, ENDS, {"optim": "adamw_8bit", "max_length": 256}),
        _whole("loop adamw_torch", LLAMA, ENDS, {"optim": "adamw_torch"}, stack="loop"),
        _whole("trainer adafactor", LLAMA, ENDS, {"optim": "adafactor"}),
        _whole("trainer lora linear", LLAMA, {"modules_to_save": ["down_proj"]}, {}, method="lora"),
        _whole("trainer lora linear off norms", LLAMA, {"modules_to_save": ["o_proj", "norm"]}, OFF, method="lora"),
        _whole("trainer int8", LLAMA, ENDS, {}, quantization={"load_in_8bit": True}),
        _whole("trl dpo", LLAMA, ENDS, {"objective": "dpo"}, stack="trl"),
        _whole("trl dpo tied lora", TIED, ENDS, {"objective": "dpo"}, stack="trl", method="lora"),
    ]
    for name in ("qwen2 tied", "qwen3", "gemma", "gemma2", "gemma3_text", "mistral", "phi3", "mixtral", "qwen3_moe"):
        own = {**ENDS, "target_modules": ATTENTION if name in {"mixtral", "qwen3_moe"} else "all-linear"}
        found += [
            _whole(f"{name} trainer", config(name), own, {}),
            _whole(f"{name} trl lora off", config(name), own, OFF, stack="trl", method="lora"),
        ]
    return found


def targets_and_ranks() -> list[dict[str, Any]]:
    """`exclude_modules`, `rank_pattern`, `init_lora_weights` and what moves no byte."""
    ranks = {"rank_pattern": {"q_proj": 64, "mlp.down_proj": 4}, "alpha_pattern": {"q_proj": 8.0}}
    excluded = {"exclude_modules": ["k_proj", "up_proj"]}
    found = []
    for stack in STACKS:
        more = {"stack": stack}
        found += [
            _adapters(f"{stack} ranks", LLAMA, ranks, {}, **more),
            _adapters(f"{stack} ranks off lora", LLAMA, ranks, OFF, method="lora", **more),
            _adapters(f"{stack} excluded off", LLAMA, excluded, OFF, **more),
        ]
    found += [
        _adapters("trainer ranks dropout", LLAMA, {**ranks, "lora_dropout": 0.05}, {}),
        _adapters("trainer ranks dora off", LLAMA, {**ranks, "use_dora": True}, OFF),
        _adapters("trainer ranks accumulation", LLAMA, ranks, {"gradient_accumulation_steps": 4}),
        _adapters("trainer ranks qwen2", config("qwen2"), ranks, {}),
        _adapters("trainer ranks gemma2 off", config("gemma2"), ranks, OFF),
        _adapters("trl ranks mixtral", config("mixtral"), {**ranks, "target_modules": ATTENTION}, {}, stack="trl"),
        _adapters("trainer ranks and whole modules", LLAMA, {**ranks, **ENDS}, {}),
        _adapters("trainer orthogonal lora", LLAMA, {"init_lora_weights": "orthogonal"}, {}, method="lora"),
        _adapters("trainer gaussian", LLAMA, {"init_lora_weights": "gaussian", "fan_in_fan_out": True}, {}),
        _adapters("trainer bias of a model without", LLAMA, {"bias": "all"}, {}),
    ]
    return found


def _adapters(
    name: str, model: dict[str, Any], lora: dict[str, Any], training: dict[str, Any], **more: Any
) -> dict[str, Any]:
    return setting(f"adapters {name}", model, training, lora=lora, **more)


def _whole(
    name: str, model: dict[str, Any], lora: dict[str, Any], training: dict[str, Any], **more: Any
) -> dict[str, Any]:
    return setting(f"whole modules {name}", model, training, lora=lora, **more)


def all_settings() -> list[dict[str, Any]]:
    """The whole table."""
    return whole_modules() + targets_and_ranks()


if __name__ == "__main__":
    print_table(all_settings(), sys.argv[1:])
