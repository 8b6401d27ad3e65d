"""Write `planner/families/defaults.json`: what transformers' config classes say where a config.json is silent.

    python -m planner.probe.recording.config_defaults > planner/families/defaults.json

The formulas read that file, so that a pasted config means to them what it means to transformers. Only plain values
are kept; `attribute_map` gives the other spellings of a key (GPT-2's `n_embd` is `hidden_size`).
"""

import json
import sys
from dataclasses import fields
from typing import Any

from planner.families.registry import known_types
from planner.probe.devices.virtual_card import insert_no_card

insert_no_card()  # torch's CUDA build is imported next, with or without NVIDIA's libraries

import transformers  # noqa: E402  # needs the line above
from transformers import CONFIG_MAPPING, PretrainedConfig  # noqa: E402  # as above

# Of Gemma 4's whole model the text tower's class says it, and InternLM 3's biases are read under its config's names.
# Jamba's tensors are planned, its steps are not.
MODEL_TYPES = sorted({*known_types(), "jamba"} & {*CONFIG_MAPPING} - {"gemma4", "internlm3"})

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
