"""Unsloth Studio YAML.

Keys as read in unslothai/unsloth (015bdef0), studio/backend/assets/configs: full_finetune.yaml, lora_text.yaml,
vision_lora.yaml and model_defaults/. Defaults of what a file leaves out: unsloth_cli/config.py (batch_size 2,
max_seq_length 2048, load_in_4bit, rank 64 on seven projections, packing off) and studio/backend/models/training.py
(optim adamw_8bit). Advice is not written back into files with sections: a section is one value to the editor.
"""

from app.imports.ignored_keys import ignored_keys
from app.imports.precision import four_bits
from app.imports.rules import Reading, Rule, Trainer, names_or_all, words
from app.imports.unsloth import put_unsloth
from planner.request.unsloth import UNSLOTH

_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def _settle(reading: Reading) -> None:
    """4-bit bases come with nested quantization; LoRA trains in float32 under bfloat16 autocast."""
    full = reading.config.get("training.training_type") == "full"
    four = reading.config.get("training.load_in_4bit", True) is True and not full
    key = "training.training_type" if "training.training_type" in reading.config else "training.load_in_4bit"
    reading.use(key, "method", "full" if full else "qlora" if four else "lora")
    if four:
        four_bits(reading, "training.load_in_4bit", nested=True)
    if isinstance(reading.config.get("training.gradient_checkpointing"), str):
        on = reading.config["training.gradient_checkpointing"] not in ("none", "false")
        reading.use("training.gradient_checkpointing", "training.gradient_checkpointing", on)
    if full:
        reading.document.pop("lora", None)
    else:
        reading.assume("lora.r", 64, "Studio's default lora_r")
        reading.assume("lora.target_modules", list(_TARGETS), "Studio's default target_modules")
    reading.assume("training.optim", "adamw_8bit", "Studio's default optimizer")
    reading.assume("training.per_device_train_batch_size", 2, "Studio's default batch_size")
    reading.assume("training.max_length", 2048, "Studio's default max_seq_length")
    if not reading.on("training.packing"):
        reading.pads("training.packing")
    said = reading.config.get("training.gradient_checkpointing")
    put_unsloth(reading, "model", said if said in (None, UNSLOTH) else said not in ("none", "false", False))


UNSLOTH_STUDIO = Trainer(
    id="unsloth-studio",
    name="Unsloth Studio",
    sections=words("data training lora logging inference"),
    signature=words(
        "training.training_type training.max_seq_length training.batch_size training.load_in_4bit training.num_epochs "
        "training.train_on_completions training.random_seed lora.lora_r lora.vision_all_linear lora.use_loftq "
        "lora.finetune_language_layers logging.enable_wandb logging.enable_tensorboard data.format_type data.dataset"
    ),
    rules=(
        Rule("model", "model"),
        Rule("training.max_seq_length", "training.max_length"),
        Rule("training.batch_size", "training.per_device_train_batch_size"),
        Rule("training.gradient_accumulation_steps", "training.gradient_accumulation_steps"),
        Rule("training.optim", "training.optim"),
        Rule("lora.lora_r", "lora.r"),
        Rule("lora.lora_alpha", "lora.lora_alpha"),
        Rule("lora.lora_dropout", "lora.lora_dropout"),
        Rule("lora.target_modules", "lora.target_modules", names_or_all),
        Rule("lora.use_rslora", "lora.use_rslora"),
        Rule("lora.use_dora", "lora.use_dora"),
    ),
    settle=_settle,
    handled=words("training.training_type training.load_in_4bit training.gradient_checkpointing training.packing"),
    ignored=ignored_keys("unsloth_studio"),
)
