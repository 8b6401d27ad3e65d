"""The settings that hold preference objectives to dry runs of TRL's own loss code.

python -m tests.planner.step.tables.preference_settings [WORD ...] | python -m planner.probe.recording.agreement
"""

import sys
from typing import Any

from tests.planner.step.models import config
from tests.planner.step.tables.settings import ATTENTION, LLAMA, print_table, setting

THREE = {"per_device_train_batch_size": 3}
OFF = {"gradient_checkpointing": False}
WIDE = {**LLAMA, "vocab_size": 64_000}
FAMILIES = ("qwen2", "qwen2 tied", "qwen3", "mistral", "gemma2", "gemma3_text", "phi3", "gpt_neox", "llama wide")
METHODS: dict[str, dict[str, Any]] = {
    "qlora": {"stack": "trl"},
    "int8": {"stack": "trl", "quantization": {"load_in_8bit": True}},
    "lora": {"stack": "trl", "method": "lora"},
    "full": {"stack": "trl", "method": "full"},
}


def dpo() -> list[dict[str, Any]]:
    """Every method with each kind of reference, checkpointed and not; what else moves bytes on QLoRA."""
    found = []
    for name, method in METHODS.items():
        for kind, reference in (("", {}), (" precomputed", {"precompute_ref_log_probs": True})):
            found += [
                _dpo(f"{name}{kind}", reference, **method),
                _dpo(f"{name}{kind} off", {**reference, **OFF}, **method),
            ]
        if name != "full":
            found += [
                _dpo(f"{name} copy", {"ref_model": "copy"}, **method),
                _dpo(f"{name} copy off", {"ref_model": "copy", **OFF}, **method),
            ]
    trl = {"stack": "trl"}
    two = {"per_device_train_batch_size": 2}
    found += [
        _dpo("batch 2", two, **trl),
        _dpo("batch 2 padded", {**two, "padded": True}, **trl),
        _dpo("batch 2 padded off", {**two, **OFF, "padded": True}, **trl),
        _dpo("accumulation", {"gradient_accumulation_steps": 4}, **trl),
        _dpo("full accumulation", {"gradient_accumulation_steps": 4}, stack="trl", method="full"),
        _dpo("long", {"max_length": 4096}, **trl),
        _dpo("eager", {"attn_implementation": "eager"}, **trl),
        _dpo("eager off", {"attn_implementation": "eager", **OFF}, **trl),
        _dpo("reentrant", {"use_reentrant": True}, **trl),
        _dpo("attention", OFF, lora={"target_modules": ATTENTION}, **trl),
        _dpo("q,v off", OFF, lora={"target_modules": ["q_proj", "v_proj"]}, **trl),
        _dpo("dropout off", OFF, lora={"lora_dropout": 0.05}, **trl),
        _dpo("rank 128", {}, lora={"r": 128}, **trl),
        _dpo("kbit", {}, stack="kbit"),
        _dpo("kbit copy", {"ref_model": "copy"}, stack="kbit"),
        _dpo("trainer off", OFF, stack="trainer"),
        _dpo("loop off", OFF, stack="loop"),
        _dpo("clips nothing", {"max_grad_norm": 0.0}, **trl),
    ]
    for name in FAMILIES:
        model = WIDE if name == "llama wide" else config(name)
        found += [
            setting(f"dpo {name}", model, {"objective": "dpo"}, **trl),
            setting(f"dpo {name} full off", model, {"objective": "dpo", **OFF}, stack="trl", method="full"),
        ]
    return found


def kto() -> list[dict[str, Any]]:
    """Two examples at a time, the fewest that TRL takes."""
    found = []
    for name, method in METHODS.items():
        found += [
            _kto(name, {}, **method),
            _kto(f"{name} off", OFF, **method),
            _kto(f"{name} precomputed off", {"precompute_ref_log_probs": True, **OFF}, **method),
        ]
    trl = {"stack": "trl"}
    return [
        *found,
        _kto("copy", {"ref_model": "copy"}, **trl),
        _kto("batch 4 padded", {"per_device_train_batch_size": 4, "padded": True}, **trl),
        _kto("q,v off", OFF, lora={"target_modules": ["q_proj", "v_proj"]}, **trl),
        _kto("accumulation", {"gradient_accumulation_steps": 4}, **trl),
    ]


def without_reference() -> list[dict[str, Any]]:
    """ORPO and CPO: all logits of both halves; on a vocabulary that is the peak, and on one that is not."""
    found = []
    for objective in ("orpo", "cpo"):
        own = {"objective": objective}
        for name, method in METHODS.items():
            found += [
                setting(f"{objective} {name}", LLAMA, own, **method),
                setting(f"{objective} {name} off", LLAMA, {**own, **OFF}, **method),
                setting(f"{objective} {name} wide", WIDE, {**own, "per_device_train_batch_size": 2}, **method),
            ]
        found += [
            setting(f"{objective} padded", WIDE, {**own, **THREE, "padded": True}, stack="trl"),
            setting(f"{objective} kbit", WIDE, own, stack="kbit"),
            setting(f"{objective} accumulation", WIDE, {**own, "gradient_accumulation_steps": 4}, stack="trl"),
            setting(f"{objective} gemma2", config("gemma2"), own, stack="trl"),
        ]
    return found


def _kto(name: str, training: dict[str, Any], **more: Any) -> dict[str, Any]:
    own = {"objective": "kto", "per_device_train_batch_size": 2}
    return setting(f"kto {name}", LLAMA, {**own, **training}, **more)


def _dpo(name: str, training: dict[str, Any], **more: Any) -> dict[str, Any]:
    return setting(f"dpo {name}", LLAMA, {"objective": "dpo", **training}, **more)


def all_settings() -> list[dict[str, Any]]:
    """The whole table."""
    return [*dpo(), *kto(), *without_reference()]


if __name__ == "__main__":
    print_table(all_settings(), sys.argv[1:])
