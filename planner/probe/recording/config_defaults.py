"""Write `planner/families/defaults.json`: what transformers' config classes say where a config.json is silent.

    python -m planner.probe.recording.config_defaults > planner/families/defaults.json

The formulas read that file, so that a pasted config means to them what it means to transformers. Only plain values
are kept; `attribute_map` gives the other spellings of a key (GPT-2's `n_embd` is `hidden_size`).
"""

import json
import sys
from dataclasses import fields
from typing import Any

from planner.probe.devices.virtual_card import insert_no_card

insert_no_card()  # torch's CUDA build is imported next, with or without NVIDIA's libraries

import transformers  # noqa: E402  # needs the line above
from transformers import CONFIG_MAPPING, PretrainedConfig  # noqa: E402  # as above

MODEL_TYPES = (
    "apertus", "arcee", "bamba", "bloom", "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "ernie4_5",
    "exaone4", "falcon", "gemma", "gemma2", "gemma3_text", "gemma4_text", "glm", "glm4", "glm4_moe",
    "glm4_moe_lite", "gpt2", "gpt_neox", "gpt_oss", "gptj", "granite", "granitemoe", "granitemoehybrid",
    "hunyuan_v1_dense", "jamba", "llama", "llama4_text", "minimax_m2", "ministral3", "mistral", "mixtral",
    "nemotron_h", "olmo", "olmo2", "olmo3", "olmoe", "opt", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe",
    "qwen3", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe", "qwen3_next", "seed_oss", "smollm3", "stablelm",
    "starcoder2",
)  # fmt: skip

_NOT_A_SHAPE = frozenset(field.name for field in fields(PretrainedConfig)) | {
    "rope_parameters", "initializer_range", "use_cache", "pad_token_id", "bos_token_id", "eos_token_id",
    "pretraining_tp",
}  # fmt: skip


def class_defaults(model_type: str) -> dict[str, Any]:
    """The plain field defaults of a config class (None: derived from other keys), and its alternative spellings."""
    config = CONFIG_MAPPING[model_type]
    defaults = {
        field.name: field.default
        for field in fields(config)
        if field.name not in _NOT_A_SHAPE and isinstance(field.default, int | float | str | bool | None)
    }
    return {"defaults": defaults, "attribute_map": dict(config.attribute_map)}


def main() -> int:
    """Print the table."""
    table = {"transformers": transformers.__version__} | {name: class_defaults(name) for name in MODEL_TYPES}
    json.dump(table, sys.stdout, indent=0, sort_keys=True)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
