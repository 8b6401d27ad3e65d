"""torchtune and LitGPT, which have decoders of their own: planned as transformers and peft run the same model.

Keys from memory, to be checked against pytorch/torchtune recipes/configs and Lightning-AI/litgpt
litgpt/finetune/lora.py.
"""

import re
from typing import Any

from app.imports.effects import ONE_CARD, PREFERENCES, Effect, each
from app.imports.precision import Dtypes, put_stack
from app.imports.rules import Reading, Rule, Trainer, words

_OWN = Effect("a decoder of its own; planned as transformers and peft run it", "as transformers runs it", saves=True)
# Builders of torchtune.models by their last part, without lora_ or qlora_.
_TORCHTUNE_MODELS = {
    "llama2_7b": "meta-llama/Llama-2-7b-hf", "llama2_13b": "meta-llama/Llama-2-13b-hf",
    "llama2_70b": "meta-llama/Llama-2-70b-hf", "llama3_8b": "meta-llama/Meta-Llama-3-8B",
    "llama3_70b": "meta-llama/Meta-Llama-3-70B", "llama3_1_8b": "meta-llama/Llama-3.1-8B",
    "llama3_1_70b": "meta-llama/Llama-3.1-70B", "llama3_2_1b": "meta-llama/Llama-3.2-1B",
    "llama3_2_3b": "meta-llama/Llama-3.2-3B", "llama3_3_70b": "meta-llama/Llama-3.3-70B-Instruct",
    "mistral_7b": "mistralai/Mistral-7B-v0.1", "gemma_2b": "google/gemma-2b", "gemma_7b": "google/gemma-7b",
    "gemma2_2b": "google/gemma-2-2b", "gemma2_9b": "google/gemma-2-9b", "gemma2_27b": "google/gemma-2-27b",
    "phi3_mini": "microsoft/Phi-3-mini-4k-instruct", "phi4_14b": "microsoft/phi-4",
    **{f"qwen2_{size}": f"Qwen/Qwen2-{size.replace('_', '.').upper()}" for size in ("0_5b", "1_5b", "7b")},
    **{
        f"qwen2_5_{size}": f"Qwen/Qwen2.5-{size.removesuffix('_base').replace('_', '.').upper()}"
        for size in ("0_5b", "1_5b_base", "3b", "7b_base", "14b_base", "32b_base", "72b_base")
    },
    **{
        f"qwen3_{size}": f"Qwen/Qwen3-{size.replace('_', '.').upper()}"
        for size in ("0_6b", "1_7b", "4b", "8b", "14b", "32b")
    },
}  # fmt: skip
_TORCHTUNE_MODULES = {"output_proj": "o_proj"}
_OPTIMIZERS = {
    "AdamW": "adamw_torch", "Adam": "adamw_torch", "SGD": "sgd", "PagedAdamW8bit": "paged_adamw_8bit",
    "AdamW8bit": "adamw_8bit", "PagedAdamW": "paged_adamw_32bit", "AdamW4bit": "adamw_torch_4bit",
}  # fmt: skip


def _last(value: Any) -> str:
    return str(value).rpartition(".")[2]


def _settle_torchtune(reading: Reading) -> None:
    config = reading.config
    builder = _last(config.get("model._component_"))
    plain = re.sub(r"^q?lora_", "", builder)
    method = "qlora" if builder.startswith("qlora_") else "lora" if builder.startswith("lora_") else "full"
    reading.use("model._component_", "method", method)
    if plain in _TORCHTUNE_MODELS:
        reading.use("model._component_", "model", _TORCHTUNE_MODELS[plain])
    reading.leave_out("model._component_", _OWN)
    if method == "qlora":
        reading.put(
            "quantization", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
        )
        reading.put("quantization.bnb_4bit_use_double_quant", True)
    dtype = "bfloat16" if config.get("dtype", "bf16") == "bf16" else "float32"
    put_stack(reading, "loop", Dtypes(dtype, None, dtype), "torchtune trains in its dtype, without autocast")
    if method != "full":
        modules = config.get("model.lora_attn_modules")
        names = [_TORCHTUNE_MODULES.get(str(name), str(name)) for name in modules] if isinstance(modules, list) else []
        names += ["gate_proj", "up_proj", "down_proj"] if reading.on("model.apply_lora_to_mlp") else []
        names += ["lm_head"] if reading.on("model.apply_lora_to_output") else []
        reading.use("model.lora_attn_modules", "lora.target_modules", names or ["q_proj", "v_proj"])
    optimizer = _last(config.get("optimizer._component_", "AdamW"))
    chosen = _OPTIMIZERS.get(optimizer, optimizer)
    fused = chosen == "adamw_torch" and reading.on("optimizer.fused")
    reading.use("optimizer._component_", "training.optim", "adamw_torch_fused" if fused else chosen)
    if reading.on("optimizer_in_bwd"):
        reading.leave_out("optimizer_in_bwd", Effect("steps inside the backward pass", "with a plain step", saves=True))
    reading.assume("training.gradient_checkpointing", False, "torchtune checkpoints only when told to")
    if not config.get("tokenizer.max_seq_len"):
        why = "no max_seq_len: as long as the data has it; planned with 2,048 tokens"
        reading.leave_out("tokenizer.max_seq_len", Effect(why, "with 2,048 tokens"))
    if not reading.on("dataset.packed"):
        reading.pads("dataset.packed")


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
    settle=_settle_torchtune,
    handled=words(
        "model._component_ model.lora_attn_modules model.apply_lora_to_mlp model.apply_lora_to_output dtype "
        "optimizer._component_ optimizer.fused optimizer_in_bwd dataset.packed"
    ),
    harmless=words(
        """
tokenizer._component_ tokenizer.path tokenizer.merges_file checkpointer._component_ checkpointer.checkpoint_dir
checkpointer.checkpoint_files checkpointer.output_dir checkpointer.model_type checkpointer.recipe_checkpoint
checkpointer.adapter_checkpoint dataset._component_ dataset.split seed shuffle epochs max_steps_per_epoch output_dir
optimizer.lr optimizer.weight_decay optimizer.betas lr_scheduler._component_ lr_scheduler.num_warmup_steps
resume_from_checkpoint save_adapter_weights_only device log_every_n_steps log_peak_memory_stats log_level
metric_logger._component_ metric_logger.log_dir profiler._component_ profiler.enabled loss._component_
loss.num_output_chunks clip_grad_norm
"""
    ),
    unmodelled={
        **each("compile", Effect("compiled graphs save other activations; planned without", saves=True)),
        "enable_activation_offloading": Effect("moves activations to the host; planned on the card", saves=True),
        **each("tensor_parallel_dim fsdp_cpu_offload custom_sharded_layers data_parallel_shard_dim", ONE_CARD),
        **each("ref_checkpointer reward_and_value_model policy_model teacher_model", PREFERENCES),
    },
)  # fmt: skip


def _settle_litgpt(reading: Reading) -> None:
    config = reading.config
    if folder := config.get("checkpoint_dir"):
        reading.use("checkpoint_dir", "model", "/".join(str(folder).rstrip("/").split("/")[-2:]))
    reading.leave_out("checkpoint_dir", _OWN)
    modules = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "projection": "o_proj"}
    names = [module for part, module in modules.items() if reading.on(f"lora_{part}")]
    names += ["gate_proj", "up_proj", "down_proj"] if reading.on("lora_mlp") else []
    names += ["lm_head"] if reading.on("lora_head") else []
    has_lora = any(key.startswith("lora_") for key in config)
    said = config.get("quantize")
    quantized = has_lora and str(said).startswith("bnb.")
    method = "qlora" if quantized else "lora" if has_lora else "full"
    reading.use("quantize" if quantized else "lora_r" if has_lora else "precision", "method", method)
    if quantized and "int8" in str(said):
        reading.put("quantization", {"load_in_8bit": True})
    elif quantized:
        kind = "fp4" if "fp4" in str(said) else "nf4"
        reading.put(
            "quantization", {"load_in_4bit": True, "bnb_4bit_quant_type": kind, "bnb_4bit_compute_dtype": "bfloat16"}
        )
        reading.put("quantization.bnb_4bit_use_double_quant", str(said).endswith("-dq"))
    precision = str(config.get("precision") or "bf16-true")
    half = "float16" if precision.startswith("16") else "bfloat16" if precision.startswith("bf16") else "float32"
    mixed = precision.endswith("-mixed")
    dtypes = Dtypes("float32" if mixed else half, half if mixed else None, "float32" if mixed else half)
    put_stack(reading, "loop", dtypes, "LitGPT trains in its precision")
    if has_lora:
        reading.use("lora_query", "lora.target_modules", names or ["q_proj", "v_proj"])
    micro, whole = config.get("train.micro_batch_size"), config.get("train.global_batch_size")
    if isinstance(micro, int) and isinstance(whole, int) and micro > 0:
        reading.use("train.global_batch_size", "training.gradient_accumulation_steps", max(1, whole // micro))
    reading.assume("training.gradient_checkpointing", False, "LitGPT checkpoints on several cards alone")
    optimizer = config.get("optimizer", "AdamW")
    name = optimizer.get("class_path", "AdamW") if isinstance(optimizer, dict) else optimizer
    reading.use("optimizer", "training.optim", _OPTIMIZERS.get(_last(name), _last(name)))
    devices = config.get("devices", 1)
    if devices not in (1, "auto"):
        reading.leave_out("devices", ONE_CARD)
    if not config.get("train.max_seq_length"):
        why = "no max_seq_length: as long as the data has it; planned with 2,048 tokens"
        reading.leave_out("train.max_seq_length", Effect(why, "with 2,048 tokens"))
    reading.pads("a packed dataset")


LITGPT = Trainer(
    id="litgpt",
    name="LitGPT",
    sections=words("train eval logger_kwargs"),
    signature=words(
        "checkpoint_dir out_dir precision quantize lora_query lora_key lora_value lora_projection lora_mlp lora_head "
        "train.micro_batch_size train.global_batch_size train.max_seq_length eval.interval devices num_nodes"
    ),
    rules=(
        Rule("train.micro_batch_size", "training.per_device_train_batch_size"),
        Rule("train.max_seq_length", "training.max_length"),
        Rule("lora_r", "lora.r"),
        Rule("lora_alpha", "lora.lora_alpha"),
        Rule("lora_dropout", "lora.lora_dropout"),
        Rule("train.max_norm", "training.max_grad_norm"),
    ),
    settle=_settle_litgpt,
    handled=words(
        "checkpoint_dir precision quantize devices lora_query lora_key lora_value lora_projection lora_mlp lora_head "
        "train.global_batch_size optimizer"
    ),
    harmless=words(
        """
out_dir data train.save_interval train.log_interval train.lr_warmup_steps train.lr_warmup_fraction train.epochs
train.max_tokens train.max_steps train.tie_embeddings train.min_lr eval.interval eval.max_new_tokens eval.max_iters
eval.initial_validation eval.final_validation eval.evaluate_example logger_name seed access_token
"""
    ),
    unmodelled=each("num_nodes", ONE_CARD),
)
