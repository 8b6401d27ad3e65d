"""Every optimizer that the environment has, on one Llama: adapters, and all weights.

    python -m tests.planner.step.tables.optimizer_settings [WORD ...] | python -m planner.probe.recording.agreement
"""

import sys
from typing import Any

from tests.planner.step.tables.settings import LLAMA, print_table, setting

OPTIMIZERS = (
    "adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "ademamix", "ademamix_8bit", "lion_32bit",
    "lion_8bit", "paged_lion_8bit", "rmsprop", "rmsprop_bnb_8bit", "adagrad", "adafactor", "sgd", "muon",
)  # fmt: skip


def all_settings() -> list[dict[str, Any]]:
    """The whole table."""
    return [
        setting(f"llama {method} {optim}", LLAMA, {"max_length": 256, "optim": optim}, method=method)
        for method in ("qlora", "full")
        for optim in OPTIMIZERS
    ] + muon_settings() + low_rank_settings()


def muon_settings() -> list[dict[str, Any]]:
    """Muon of float32 gradients, of square matrices, of tied embeddings and of biases, and beside a trained head."""
    wide = {"model_dtype": "float32", "autocast": "bfloat16"}
    tied = {**LLAMA, "model_type": "qwen2", "tie_word_embeddings": True}
    square = {**LLAMA, "intermediate_size": 1024, "num_key_value_heads": 8}
    training = {"max_length": 256, "optim": "muon"}
    return [
        setting("llama full muon float32", LLAMA, training, method="full", stack=wide),
        setting("llama full muon square", square, training, method="full"),
        setting("qwen2 full muon", tied, training, method="full"),
        setting("llama lora muon head", LLAMA, training, method="lora", lora={"modules_to_save": ["lm_head"]}),
    ]


def low_rank_settings() -> list[dict[str, Any]]:
    """GaLore and APOLLO, in 16 and 32 bit. Recording them takes galore-torch and apollo-torch."""
    narrow = {"model_dtype": "bfloat16", "autocast": "bfloat16"}
    wide = {"model_dtype": "float32", "autocast": "bfloat16"}
    square = {**LLAMA, "intermediate_size": 768, "num_key_value_heads": 8}
    mlp = ("rank=128, proj_type=reverse_std", "rank=128")
    found = []
    for name, stack in (("bfloat16", narrow), ("float32", wide)):
        for optim in ("galore_adamw", "galore_adamw_8bit", "galore_adafactor", "apollo_adamw"):
            found += [
                _low_rank(f"{optim} {name}", LLAMA, stack, optim, "all-linear", "rank=64"),
                _low_rank(f"{optim} {name} attention", LLAMA, stack, optim, ["self_attn"], "rank=32"),
                _low_rank(f"{optim} {name} mlp", square, stack, optim, r".*\.mlp\..*", mlp[optim == "apollo_adamw"]),
            ]
        found += [
            _low_rank(f"galore_adamw {name} full", LLAMA, stack, "galore_adamw", ["attn", "mlp"], "proj_type=full"),
            _low_rank(f"galore_adamw {name} left", LLAMA, stack, "galore_adamw", ["mlp"], "proj_type=left"),
            _low_rank(f"apollo_adamw {name} svd", LLAMA, stack, "apollo_adamw", ["attn", "mlp"], "rank=64, proj=svd"),
            _low_rank(f"apollo_adamw {name} mini", LLAMA, stack, "apollo_adamw", ["attn"], "rank=1, scale_type=tensor"),
        ]
    return found


def _low_rank(  # noqa: PLR0917  one line of a table
    name: str, model: dict[str, Any], stack: Any, optim: str, targets: Any, arguments: str
) -> dict[str, Any]:
    training = {"max_length": 256, "optim": optim, "optim_target_modules": targets, "optim_args": arguments}
    return setting(f"llama full {name}", model, training, method="full", stack=stack)


if __name__ == "__main__":
    print_table(all_settings(), sys.argv[1:])
