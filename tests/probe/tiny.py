"""Models small enough to train in a tenth of a second, as pasted config.json objects, and ways to run one."""

from typing import Any

from transformers.utils import logging as transformers_logging

from planner.measurement import Measurement
from planner.probe.__main__ import measured
from planner.probe.devices.cpu import watched_run
from planner.probe.meters.live import LiveMeter
from planner.probe.options import Options
from planner.probe.progress import Silence
from planner.probe.training.configs import config_of
from planner.probe.training.phases import Job
from planner.request.recipe import Recipe
from planner.request.schema import Request
from tests.probe import helper

_DENSE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 512, "max_position_embeddings": 256,
}  # fmt: skip

MODELS: dict[str, dict[str, Any]] = {
    "llama": _DENSE,
    "qwen2": _DENSE | {"tie_word_embeddings": True},
    "qwen3": _DENSE | {"head_dim": 32},
    "mistral": _DENSE | {"sliding_window": 32},
    "gemma2": _DENSE | {"head_dim": 16, "sliding_window": 32},
    "gemma3_text": _DENSE
    | {"head_dim": 16, "sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"]},
    "phi3": _DENSE | {"pad_token_id": 0},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 512, "n_positions": 256},
    "mixtral": _DENSE | {"num_local_experts": 4},
    "qwen3_moe": _DENSE | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 16},
    "gpt_oss": _DENSE
    | {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 32,
       "layer_types": ["sliding_attention", "full_attention"]},
}  # fmt: skip

A_4090 = {"total_memory_bytes": 25_757_220_864, "compute_capability": "8.9", "name": "a 24 GB card"}
TWO_STEPS = {"steps": 2}


def request(model: str = "llama", *, config: dict[str, Any] | None = None, **parts: Any) -> Request:
    """A request for one of `MODELS`; `config` adds to its config, `parts` to the request."""
    training = {"max_length": 64, "per_device_train_batch_size": 2, "optim": "adamw_torch_fused"}
    training |= parts.pop("training", {})
    document = {"model": {"model_type": model, **MODELS[model], **(config or {})}, "gpu": A_4090, "training": training}
    return Request.parse(document | parts)


def watch(asked: Request, **options: Any) -> LiveMeter:
    """Run `asked` on the CPU under a live meter: a first and a steady step."""
    transformers_logging.disable_progress_bar()
    recipe = Recipe.of(asked)
    chosen = Options(**(TWO_STEPS | options), instrument="cpu")
    return watched_run(Job(asked, recipe, config_of(asked, recipe), chosen, lambda *_: None))


def on_card(asked: Request, **options: Any) -> Measurement:
    """Dry-run `asked` on a virtual card, in a process of its own."""
    measurement: Measurement = helper.call(measured, asked, Options(**options), Silence())
    return measurement


def peaks(meter: LiveMeter) -> dict[str, int]:
    """Worst live bytes per phase."""
    return {phase.name: phase.peak_allocated_bytes for phase in meter.readings()}


def allocated(measurement: Measurement) -> dict[str, int]:
    """Worst allocated bytes per phase."""
    return {phase.name: phase.peak_allocated_bytes for phase in measurement.phases}
