"""LoraConfig's options beyond rank and targets, each once: how its value is written, and what a flag says of it.

The form's controls (app/forms/fields.py) and the terminal's flags (app/cli/flags.py) are made of this table; nothing
heavy is imported here, as the terminal reads it at every start.
"""

from typing import Literal, NamedTuple

Written = Literal[
    "modules", "names", "numbers", "patterns", "switch", "switch or word", "word", "number", "whole number"
]  # fmt: skip


class LoraOption(NamedTuple):
    """`name` is LoraConfig's own; `default` is that value as text; `metavar` shows what to write."""

    name: str
    written: Written
    help: str
    metavar: str = ""
    default: str = ""


LORA_OPTIONS = (
    LoraOption("peft_type", "word", "PEFT's method.", "LORA|ADALORA|VERA|IA3|OFT", "LORA"),
    LoraOption("oft_block_size", "whole number", "OFT's block size.", "32", "32"),
    LoraOption("feedforward_modules", "names", "Where IA3 scales inputs.", "down_proj,..."),
    LoraOption("modules_to_save", "names", "Trained as whole copies.", "embed_tokens,lm_head"),
    LoraOption("modules_to_save_dtype", "word", "What a trainer casts these copies to.", "float32|bfloat16|float16"),
    LoraOption("ensure_weight_tying", "switch", "One copy of a tied pair.", default="off"),
    LoraOption("trainable_token_indices", "numbers", "Trained rows of the embedding.", "128256-128260,..."),
    LoraOption("exclude_modules", "modules", "Targets without adapters.", "k_proj,..."),
    LoraOption("layers_to_transform", "numbers", "Layers with adapters, counted from 0.", "0-7|24,25,..."),
    LoraOption("layers_pattern", "names", "What these layers are numbered under.", "layers"),
    LoraOption("target_parameters", "names", "Adapters on stacked experts.", "mlp.experts.gate_up_proj,..."),
    LoraOption("rank_pattern", "patterns", "Ranks of their own.", '{"q_proj": 64}'),
    LoraOption("alpha_pattern", "patterns", "Alphas of their own; moves no byte.", '{"q_proj": 8}'),
    LoraOption("bias", "word", "Trained biases.", "none|all|lora_only", "none"),
    LoraOption("fan_in_fan_out", "switch", "LoraConfig's; moves no byte.", default="off"),
    LoraOption("init_lora_weights", "switch or word", "First values.", "gaussian|orthogonal|pissa|olora", "on"),
    LoraOption("loraplus_lr_ratio", "number", "LoRA+; moves no byte.", "16"),
    LoraOption("use_rslora", "switch", "Rank-stabilized; moves no byte.", default="off"),
)


def names_written(*ways: Written) -> set[str]:
    """The options whose values are written in one of these ways."""
    return {option.name for option in LORA_OPTIONS if option.written in ways}
