"""Options of SFTConfig and TrainingArguments that move bytes, on one Llama and on families where they differ.

    python -m tests.planner.step.tables.option_settings [WORD ...] | python -m planner.probe.recording.agreement
"""

import sys
from typing import Any

from tests.planner.step.models import config
from tests.planner.step.tables.latest_settings import LATEST
from tests.planner.step.tables.settings import ATTENTION, LLAMA, print_table, setting

OFF = {"gradient_checkpointing": False}
PACKED = ("qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "phi3", "olmo2", "phi", "stablelm", "opt", "bloom")
STACKS = ("trainer", "trl", "kbit", "loop")


def packing_settings() -> list[dict[str, Any]]:
    """Documents in one row, whose mask keeps them apart where no kernel is told of their borders."""
    packed = {"packing": True}
    rows, eager = {**packed, "per_device_train_batch_size": 3}, {**packed, "attn_implementation": "eager"}
    found = []
    for stack in STACKS:
        found += [
            setting(f"llama {stack} packing", LLAMA, packed, stack=stack),
            setting(f"llama {stack} packing off", LLAMA, {**packed, **OFF}, stack=stack),
            setting(f"llama {stack} packing 3 rows", LLAMA, rows, stack=stack),
            setting(f"llama {stack} packing eager", LLAMA, eager, stack=stack),
        ]
    return [
        *found,
        setting("llama trainer packing accumulation", LLAMA, {**rows, "gradient_accumulation_steps": 2}),
        setting("llama trainer packing reentrant", LLAMA, {**packed, "use_reentrant": True}),
        setting("llama trainer packing full", LLAMA, packed, method="full"),
        setting("llama trainer packing liger", LLAMA, {**packed, "loss": "liger"}),
        setting("llama trl packing lora off", LLAMA, {**rows, **OFF}, stack="trl", method="lora"),
        *(
            setting(f"{name} trl packing", config(name), rows, stack="trl")
            for name in PACKED
        ),
        *(
            setting(f"{name} trl packing", config(name), rows, stack="trl", lora={"target_modules": ATTENTION})
            for name in ("mixtral", "gpt_oss", "deepseek_v3")
        ),
        setting("gemma3_text trainer packing off", config("gemma3_text"), {**packed, **OFF}),
    ]


def evaluation_settings() -> list[dict[str, Any]]:
    """Evaluation in larger batches than are trained, and in smaller ones."""
    eight, full = {"per_device_eval_batch_size": 8}, {"loss": "full_logits"}
    found = []
    for stack in STACKS:
        found += [
            setting(f"llama {stack} evaluation", LLAMA, {**full, **eight}, stack=stack),
            setting(f"llama {stack} evaluation off", LLAMA, {**full, **eight, **OFF}, stack=stack),
        ]
    return [
        *found,
        setting("llama trainer evaluation eager", LLAMA, {**eight, "attn_implementation": "eager"}),
        setting("llama trainer evaluation padded", LLAMA, {**eight, "padded": True}),
        setting("llama trainer evaluation one", LLAMA, {"per_device_eval_batch_size": 1}),
        setting("llama trainer evaluation full", LLAMA, eight, method="full"),
        setting("llama trainer evaluation lora", LLAMA, {**eight, "gradient_accumulation_steps": 2}, method="lora"),
        setting("llama trainer evaluation liger", LLAMA, {**eight, "loss": "liger"}),
        setting("llama trl evaluation chunked", LLAMA, eight, stack="trl"),
        setting("llama trainer evaluation dropout", LLAMA, eight, lora={"lora_dropout": 0.05}),
        setting("llama trainer evaluation int8", LLAMA, eight, quantization={"load_in_8bit": True}),
        *(
            setting(f"{name} trainer evaluation", config(name), eight)
            for name in ("qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "phi3", "olmo2", "opt", "gpt_neox")
        ),
        *(
            setting(f"{name} trainer evaluation", config(name), eight, lora={"target_modules": ATTENTION})
            for name in ("mixtral", "gpt_oss", "deepseek_v3")
        ),
        *(
            setting(f"{name} trainer evaluation", LATEST[name], eight, lora={"target_modules": ATTENTION})
            for name in ("qwen3_5", "gemma4 E4B")
        ),
    ]


def liger_settings() -> list[dict[str, Any]]:
    """Liger's kernels one by one, beside its own loss and others."""
    found = []
    for kernel in ("rope", "rms_norm", "swiglu", "cross_entropy"):
        alone = {"liger_kernel_config": kernel, "loss": "full_logits"}
        found += [
            setting(f"llama trainer liger {kernel} alone", LLAMA, alone),
            setting(f"llama trainer liger {kernel} alone off", LLAMA, {**alone, **OFF}),
        ]
    three = {"liger_kernel_config": "rope,rms_norm,swiglu"}
    for kernel in ("rope", "rms_norm", "swiglu"):
        without = {"liger_kernel_config": three["liger_kernel_config"].replace(kernel, "")}
        found.append(setting(f"llama trainer liger all but {kernel}", LLAMA, {**without, **OFF, "loss": "liger"}))
    return [
        *found,
        setting("llama trl liger beside the chunked loss", LLAMA, three, stack="trl"),
        setting("llama trl liger beside the chunked loss off", LLAMA, {**three, **OFF}, stack="trl"),
        setting("llama kbit liger beside all logits", LLAMA, {**three, "loss": "full_logits"}, stack="kbit"),
        setting("llama trainer full liger swiglu alone", LLAMA, {"liger_kernel_config": "swiglu"}, method="full"),
        *(
            setting(f"{name} trainer liger beside all logits", config(name), {**three, "loss": "full_logits"})
            for name in ("qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "olmo2", "granite")
        ),
        *(
            setting(f"{name} trainer liger rope alone off", config(name), {"liger_kernel_config": "rope", **OFF})
            for name in ("qwen3", "phi3")
        ),
    ]


def noise_settings() -> list[dict[str, Any]]:
    """NEFTune's noise on the embedded tokens."""
    noise = {"neftune_noise_alpha": 5.0}
    found = [setting(f"llama {stack} neftune", LLAMA, noise, stack=stack) for stack in STACKS]
    return [
        *found,
        setting("llama trainer neftune off", LLAMA, {**noise, **OFF}),
        setting("llama trainer full neftune", LLAMA, noise, method="full"),
        setting("llama trainer neftune reentrant", LLAMA, {**noise, "use_reentrant": True}),
        setting("gemma2 trainer neftune", config("gemma2"), noise),
        setting("gemma3_text trainer neftune", config("gemma3_text"), noise),
    ]


def all_settings() -> list[dict[str, Any]]:
    """The whole table."""
    return packing_settings() + evaluation_settings() + liger_settings() + noise_settings()


if __name__ == "__main__":
    print_table(all_settings(), sys.argv[1:])
