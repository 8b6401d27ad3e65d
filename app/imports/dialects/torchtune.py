"""torchtune YAML: a decoder of its own, planned as transformers and peft run the same model.

Keys as read in pytorch/torchtune (bd2a0fc7), recipes/configs; defaults: the builders under torchtune/models (rank 8,
attention alone) and recipes/lora_finetune_single_device.py. QLoRA is torchao's NF4 with double quantization
(torchtune/modules/low_precision/nf4_linear.py), planned as bitsandbytes'.
"""

import re

from app.imports.adapters.linear_targets import named_by_the_model
from app.imports.effects import OWN_DECODER, PREFERENCES, Effect
from app.imports.ignored_keys import ignored_keys
from app.imports.optimizer_classes import last_part, optimizer_name
from app.imports.precision import Dtypes, four_bits, put_stack
from app.imports.rules import Reading, Rule, Trainer, words
from planner.answer.not_planned import Pairs

# Builders of torchtune.models by their last part, without lora_ or qlora_, _instruct or _base.
_MODELS = {
    "llama2_7b": "meta-llama/Llama-2-7b-hf", "llama2_13b": "meta-llama/Llama-2-13b-hf",
    "llama2_70b": "meta-llama/Llama-2-70b-hf", "llama3_8b": "meta-llama/Meta-Llama-3-8B",
    "llama3_70b": "meta-llama/Meta-Llama-3-70B", "llama3_1_8b": "meta-llama/Llama-3.1-8B",
    "llama3_1_70b": "meta-llama/Llama-3.1-70B", "llama3_1_405b": "meta-llama/Llama-3.1-405B",
    "llama3_2_1b": "meta-llama/Llama-3.2-1B", "llama3_2_3b": "meta-llama/Llama-3.2-3B",
    "llama3_3_70b": "meta-llama/Llama-3.3-70B-Instruct", "mistral_7b": "mistralai/Mistral-7B-v0.1",
    "gemma_2b": "google/gemma-2b", "gemma_7b": "google/gemma-7b", "gemma2_2b": "google/gemma-2-2b",
    "gemma2_9b": "google/gemma-2-9b", "gemma2_27b": "google/gemma-2-27b",
    "phi3_mini": "microsoft/Phi-3-mini-4k-instruct", "phi4_14b": "microsoft/phi-4",
    **{f"qwen2_{size}": f"Qwen/Qwen2-{size.replace('_', '.').upper()}" for size in ("0_5b", "1_5b", "7b")},
    **{
        f"qwen2_5_{size}": f"Qwen/Qwen2.5-{size.replace('_', '.').upper()}"
        for size in ("0_5b", "1_5b", "3b", "7b", "14b", "32b", "72b")
    },
    **{
        f"qwen3_{size}": f"Qwen/Qwen3-{size.replace('_', '.').upper()}"
        for size in ("0_6b", "1_7b", "4b", "8b", "14b", "32b")
    },
}  # fmt: skip
_MODULES = {"output_proj": "o_proj"}
_MLP = ("gate_proj", "up_proj", "down_proj")


def _settle(reading: Reading) -> None:
    config = reading.config
    builder = last_part(config.get("model._component_"))
    plain = re.sub(r"^q?lora_|_(?:instruct|base)$", "", builder)
    quantized = builder.startswith("qlora_") or (builder.startswith("lora_") and reading.on("model.quantize_base"))
    method = "qlora" if quantized else "lora" if builder.startswith("lora_") else "full"
    reading.use("model._component_", "method", method)
    if plain in _MODELS:
        reading.use("model._component_", "model", _MODELS[plain])
    reading.leave_out("model._component_", OWN_DECODER)
    if method == "qlora":
        four_bits(reading, "model._component_", nested=True)
    dtype = "bfloat16" if config.get("dtype", "bf16") == "bf16" else "float32"
    put_stack(reading, "loop", Dtypes(dtype, None, dtype), "torchtune trains in its dtype, without autocast")
    if method != "full":
        _adapters(reading)
    chosen = optimizer_name(config.get("optimizer._component_", "AdamW"))
    fused = chosen == "adamw_torch" and reading.on("optimizer.fused")
    reading.use("optimizer._component_", "training.optim", "adamw_torch_fused" if fused else chosen)
    if ".rlhf." in str(config.get("loss._component_")):
        paired = "DPO" in str(config["loss._component_"])
        reading.leave_out("loss._component_", PREFERENCES, least=Pairs() if paired else None)
    reading.assume("training.gradient_checkpointing", False, "torchtune checkpoints only when told to")
    if not config.get("tokenizer.max_seq_len"):
        why = "no max_seq_len: as long as the data has it; planned with 2,048 tokens"
        reading.leave_out("tokenizer.max_seq_len", Effect(why, "with 2,048 tokens"))
    if not reading.on("dataset.packed"):
        reading.pads("dataset.packed")


def _adapters(reading: Reading) -> None:
    modules = reading.config.get("model.lora_attn_modules")
    names = [_MODULES.get(str(name), str(name)) for name in modules] if isinstance(modules, list) else []
    names += _MLP if reading.on("model.apply_lora_to_mlp") else ()
    names += ["lm_head"] if reading.on("model.apply_lora_to_output") else []
    named = named_by_the_model(reading.get("model"), names or ["q_proj", "v_proj"])
    reading.use("model.lora_attn_modules", "lora.target_modules", named)
    reading.assume("lora.r", 8, "the default of torchtune's builders")


TORCHTUNE = Trainer(
    id="torchtune",
    name="torchtune",
    sections=words("model tokenizer optimizer checkpointer loss dataset lr_scheduler metric_logger profiler"),
    signature=words(
        "model._component_ tokenizer._component_ optimizer._component_ checkpointer._component_ loss._component_ "
        "dataset._component_ enable_activation_checkpointing model.lora_attn_modules metric_logger._component_"
    ),
    rules=(
        Rule("batch_size", "training.per_device_train_batch_size"),
        Rule("gradient_accumulation_steps", "training.gradient_accumulation_steps"),
        Rule("enable_activation_checkpointing", "training.gradient_checkpointing"),
        Rule("tokenizer.max_seq_len", "training.max_length"),
        Rule("model.lora_rank", "lora.r"),
        Rule("model.lora_alpha", "lora.lora_alpha"),
        Rule("model.lora_dropout", "lora.lora_dropout"),
        Rule("model.use_dora", "lora.use_dora"),
    ),
    settle=_settle,
    handled=words(
        "model._component_ model.lora_attn_modules model.apply_lora_to_mlp model.apply_lora_to_output dtype "
        "model.quantize_base optimizer._component_ optimizer.fused loss._component_ dataset.packed"
    ),
    ignored=ignored_keys("torchtune"),
)
