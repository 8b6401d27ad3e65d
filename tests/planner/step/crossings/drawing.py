"""Requests drawn at random, for combinations that nobody thought of: every switch that moves bytes, by every family."""

from collections.abc import Iterator
from random import Random
from typing import Any

from planner.errors import FitproofError
from tests.planner.step.models import MODELS, config
from tests.planner.step.recorded import formula
from tests.planner.step.tables.latest_settings import LATEST
from tests.planner.step.tables.mixture_settings import INDEXED

FAMILIES: dict[str, dict[str, Any]] = {
    **{name: config(name) for name in MODELS},
    **LATEST,
    "deepseek_v32": {**config("deepseek_v3"), **INDEXED},
}
OPTIMIZERS = (
    "adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "adafactor", "sgd",
    "lion_8bit",
)  # fmt: skip
TARGETS = (
    "all-linear", "all-linear", "all-linear", ["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj"],
    ["gate_proj", "up_proj", "down_proj"], ["down_proj"], ["q_proj", "o_proj", "up_proj"],
)  # fmt: skip
CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "9.0", "12.0")
DTYPES = ("bfloat16", "bfloat16", "float16", "float32")
PREFERENCES = ("dpo", "kto", "orpo", "cpo", "reward")


def crossings(seed: str) -> Iterator[dict[str, Any]]:
    """Settings without end, those of one seed always the same; what the formulas refuse, in words, is left out."""
    random, number = Random(f"fitproof {seed}"), 0
    while True:
        name, request = _drawn(random)
        if _answered(request):
            number += 1
            yield {"name": f"{seed}.{number} {name}", "request": request}


def _drawn(random: Random) -> tuple[str, dict[str, Any]]:
    """A family and one request of it; not every one is possible."""
    name = random.choice(list(FAMILIES))
    method = random.choices(("qlora", "lora", "full"), (6, 2, 1))[0]
    request: dict[str, Any] = {
        "model": FAMILIES[name],
        "gpu": {"total_memory_bytes": 25_757_220_864, "compute_capability": random.choice(CAPABILITIES)},
        "method": method,
        "training": _training(random),
        "stack": random.choice(("trainer", "trl", "kbit", "loop")) if random.random() < 0.85 else _stack(random),
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
    return name, request


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
    if random.random() < 0.1:
        return {**training, "objective": random.choice(PREFERENCES)}
    asked = {"attn_implementation": (None, None, "sdpa", "eager"), "loss": (None, "full_logits", "chunked", "liger")}
    return training | {key: value for key, values in asked.items() if (value := random.choice(values))}


def _stack(random: Random) -> dict[str, Any]:
    """The numerical path written out: what no preset combines."""
    return {
        "model_dtype": random.choice(DTYPES),
        "kbit_preparation": random.random() < 0.3,
        "autocast": random.choice((None, "bfloat16", "float16")),
        "adapter_dtype": random.choice(DTYPES),
        "outputs_kept": random.random() < 0.3,
    }


def _quantization(random: Random) -> dict[str, Any]:
    if random.random() < 0.2:
        return {"load_in_8bit": True}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": random.choice(("nf4", "fp4")),
        "bnb_4bit_use_double_quant": random.random() < 0.6,
        "bnb_4bit_compute_dtype": random.choice(("bfloat16", "bfloat16", "float16", "float32")),
    }


def _answered(request: dict[str, Any]) -> bool:
    try:
        formula(request)
    except FitproofError:
        return False
    return True
