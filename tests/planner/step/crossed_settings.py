"""Settings drawn at random, for combinations that nobody thought of.

    python -m tests.planner.step.crossed_settings SEED COUNT | python -m planner.probe.recording.agreement \
        | python -m tests.planner.step.compare

Each seed is a table of its own: every switch that moves bytes, crossed with every family. What differs is a bug in one
of the two instruments.
"""

import json
import sys
from random import Random
from typing import Any

from planner.errors import FitproofError
from tests.planner.step.models import MODELS, config
from tests.planner.step.recorded import formula

OPTIMIZERS = (
    "adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "adafactor", "sgd",
)  # fmt: skip
TARGETS = (
    "all-linear", "all-linear", "all-linear", ["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj"],
    ["gate_proj", "up_proj", "down_proj"], ["down_proj"], ["q_proj", "o_proj", "up_proj"],
)  # fmt: skip
CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "9.0", "12.0")


def drawn(random: Random) -> dict[str, Any]:
    """One setting; not every one is possible."""
    name = random.choice(list(MODELS))
    method = random.choices(("qlora", "lora", "full"), (6, 2, 1))[0]
    request: dict[str, Any] = {
        "model": config(name),
        "gpu": {"total_memory_bytes": 25_757_220_864, "compute_capability": random.choice(CAPABILITIES)},
        "method": method,
        "training": _training(random),
        "stack": random.choice(("trainer", "trl", "kbit", "loop")),
    }
    if method == "qlora":
        request["quantization"] = _quantization(random)
    if method != "full":
        request["lora"] = {
            "r": random.choice((1, 8, 16, 64, 200)),
            "lora_dropout": random.choice((0.0, 0.0, 0.05)),
            "use_dora": random.random() < 0.15,
            "target_modules": random.choice(TARGETS),
        }
    return {"name": name, "request": request}


def _training(random: Random) -> dict[str, Any]:
    checkpointing = random.random() < 0.6
    training: dict[str, Any] = {
        "max_length": random.choice((64, 130, 512, 777, 1024, 1500, 2048)),
        "per_device_train_batch_size": random.choice((1, 1, 2, 4)),
        "gradient_accumulation_steps": random.choice((1, 1, 2, 5)),
        "gradient_checkpointing": checkpointing,
        "use_reentrant": checkpointing and random.random() < 0.4,
        "padded": random.random() < 0.25,
        "max_grad_norm": random.choice((1.0, 0.0)),
        "optim": random.choice(OPTIMIZERS),
    }
    asked = {"attn_implementation": (None, None, "sdpa", "eager"), "loss": (None, "full_logits", "chunked", "liger")}
    return training | {key: value for key, values in asked.items() if (value := random.choice(values))}


def _quantization(random: Random) -> dict[str, Any]:
    if random.random() < 0.2:
        return {"load_in_8bit": True}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": random.choice(("nf4", "fp4")),
        "bnb_4bit_use_double_quant": random.random() < 0.6,
        "bnb_4bit_compute_dtype": random.choice(("bfloat16", "bfloat16", "float16", "float32")),
    }


def possible(setting: dict[str, Any]) -> bool:
    """Whether the formulas answer it; what they refuse, they refuse in words."""
    try:
        formula(setting["request"])
    except FitproofError:
        return False
    return True


def main(seed: str, count: str) -> None:
    """Print `count` settings, numbered, one JSON line each."""
    random, found = Random(f"fitproof {seed}"), 0
    while found < int(count):
        setting = drawn(random)
        if possible(setting):
            found += 1
            sys.stdout.write(json.dumps({**setting, "name": f"{seed}.{found} {setting['name']}"}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
