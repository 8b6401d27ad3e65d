"""LLaMA-Factory YAML.

Keys and defaults as read in https://github.com/hiyouga/LLaMA-Factory, src/llamafactory/hparams: `model_args.py`
(quantization_type nf4, double_quantization true, use_reentrant_gc true, flash_attn auto), `finetuning_args.py`
(lora_rank 8, lora_alpha twice the rank, lora_dropout 0, lora_target all, finetuning_type lora) and `data_args.py`
(cutoff_len 2048). Compute dtype: src/llamafactory/model/patcher.py, patch_config.
"""

from typing import Any

from app.imports.rules import Ignored, Reading, Rule, Trainer, listed, negated, words

_ATTENTION = {"sdpa": "sdpa", "fa2": "flash_attention_2", "disabled": "eager"}
_ATTENTION_BACK = {value: key for key, value in _ATTENTION.items()}


def _targets(value: Any) -> Any:
    return "all-linear" if value == "all" else listed(value)


def _targets_back(value: Any) -> Any:
    return "all" if value == "all-linear" else ",".join(listed(value))


def _settle(reading: Reading) -> None:
    config = reading.config
    kind = config.get("finetuning_type", "lora")
    bits = config.get("quantization_bit")
    if kind not in ("lora", "full"):
        reading.contradict("finetuning_type", f"{kind} is not planned; lora and full are")
    if kind == "full" and bits:
        reading.contradict("quantization_bit", "LLaMA-Factory quantizes only for lora; drop it or train lora")
    quantized = bits is not None and kind != "full"
    reading.use("finetuning_type", "method", "full" if kind == "full" else "qlora" if quantized else "lora")
    if quantized:
        _quantization(reading)
    if config.get("flash_attn") in _ATTENTION:
        reading.use("flash_attn", "training.attn_implementation", _ATTENTION[config["flash_attn"]])
    if reading.on("enable_liger_kernel"):
        reading.use("enable_liger_kernel", "training.loss", "liger")
    if config.get("fp16") is True and config.get("bf16") is True:
        reading.contradict("fp16", "bf16: true as well; keep one")
    if reading.on("upcast_layernorm"):
        reading.ignored.append(Ignored("upcast_layernorm", "float32 norms widen the residual; planned without", True))
    if isinstance(reading.get("lora.r"), int):
        reading.assume("lora.lora_alpha", 2 * reading.get("lora.r"), "lora_alpha defaults to twice the rank")
    reading.assume("lora.r", 8, "LLaMA-Factory's default lora_rank")
    reading.assume("lora.target_modules", "all-linear", "lora_target defaults to all")
    reading.assume("training.max_length", 2048, "LLaMA-Factory's default cutoff_len")
    reading.assume("training.gradient_checkpointing", True, "on unless disable_gradient_checkpointing")
    reading.assume("training.use_reentrant", True, "use_reentrant_gc defaults to true")
    reading.assume("training.per_device_train_batch_size", 8, "TrainingArguments' default")
    reading.assume("training.optim", "adamw_torch_fused", "TrainingArguments' default since transformers 4.57")


def _quantization(reading: Reading) -> None:
    config = reading.config
    bits = config["quantization_bit"]
    if config.get("quantization_method") == "hqq":
        reading.use("quantization_method", "quantization", {"quant_method": "hqq"})
        return
    if config.get("quantization_method", "bnb") not in ("bnb", "bitsandbytes"):
        reading.contradict("quantization_method", "bnb and hqq are planned; choose one of them")
    if bits not in (4, 8):
        reading.contradict("quantization_bit", f"bitsandbytes has 4 and 8 bits; got {bits}")
        return
    if bits == 8:
        reading.use("quantization_bit", "quantization", {"load_in_8bit": True})
        return
    reading.use("quantization_bit", "quantization", {"load_in_4bit": True})
    reading.put("quantization.bnb_4bit_quant_type", config.get("quantization_type", "nf4"))
    reading.put("quantization.bnb_4bit_use_double_quant", config.get("double_quantization", True))
    # patch_config: without bf16 or fp16 the dtype of the checkpoint, which is bfloat16 for every recent model.
    if reading.on("fp16"):
        reading.put("quantization.bnb_4bit_compute_dtype", "float16")
    elif config.get("bf16") or reading.on("pure_bf16"):
        reading.put("quantization.bnb_4bit_compute_dtype", "bfloat16")
    reason = "neither bf16 nor fp16: LLaMA-Factory computes in the checkpoint's dtype"
    reading.assume("quantization.bnb_4bit_compute_dtype", "bfloat16", reason)


LLAMA_FACTORY = Trainer(
    id="llama-factory",
    name="LLaMA-Factory",
    signature=words(
        "finetuning_type cutoff_len lora_rank lora_target stage template quantization_bit dataset_dir flash_attn"
    ),
    rules=(
        Rule("model_name_or_path", "model"),
        Rule("cutoff_len", "training.max_length"),
        Rule("per_device_train_batch_size", "training.per_device_train_batch_size"),
        Rule("gradient_accumulation_steps", "training.gradient_accumulation_steps"),
        Rule("disable_gradient_checkpointing", "training.gradient_checkpointing", negated, negated),
        Rule("use_reentrant_gc", "training.use_reentrant"),
        Rule("optim", "training.optim"),
        Rule("max_grad_norm", "training.max_grad_norm"),
        Rule("lora_rank", "lora.r"),
        Rule("lora_alpha", "lora.lora_alpha"),
        Rule("lora_dropout", "lora.lora_dropout"),
        Rule("lora_target", "lora.target_modules", _targets, _targets_back),
        Rule("use_dora", "lora.use_dora"),
        Rule("use_rslora", "lora.use_rslora"),
    ),
    settle=_settle,
    handled=words(
        "finetuning_type quantization_bit quantization_method quantization_type double_quantization "
        "flash_attn enable_liger_kernel bf16 fp16 pure_bf16 upcast_layernorm"
    ),
    harmless=words(
        "stage do_train do_eval template dataset dataset_dir max_samples overwrite_cache "
        "preprocessing_num_workers dataloader_num_workers output_dir logging_steps save_steps plot_loss "
        "overwrite_output_dir save_only_model report_to learning_rate num_train_epochs max_steps "
        "lr_scheduler_type warmup_ratio warmup_steps ddp_timeout resume_from_checkpoint eval_dataset val_size "
        "eval_strategy eval_steps trust_remote_code run_name seed weight_decay include_num_input_tokens_seen "
        "hub_model_id push_to_hub cache_dir use_fast_tokenizer tokenized_path adam_beta1 adam_beta2 "
        "adam_epsilon loraplus_lr_ratio mask_history train_on_prompt packing neat_packing save_total_limit "
        "save_strategy load_best_model_at_end metric_for_best_model low_cpu_mem_usage enable_thinking"
    ),
    unmodelled={
        "deepspeed": "moves memory between cards; one card is planned",
        "fsdp": "shards over cards; one card is planned",
        "fsdp_config": "shards over cards; one card is planned",
        "use_unsloth": "no formula for Unsloth's kernels",
        "use_unsloth_gc": "moves checkpoints to the host; planned on the card",
        "use_galore": "low-rank gradients; not in the plan",
        "use_apollo": "low-rank gradients; not in the plan",
        "use_badam": "blockwise optimizer; not in the plan",
        "shift_attn": "S²-attention; planned with plain attention",
        "mixture_of_depths": "skips layers; not in the plan",
        "additional_target": "trains whole modules beside the adapters; not in the plan",
        "per_device_eval_batch_size": "evaluation is not in the plan",
        "upcast_lmhead_output": "float32 logits twice; planned without",
        "freeze_trainable_layers": "freeze tuning is not in the plan",
        "resize_vocab": "a larger vocabulary weighs more; not in the plan",
        "fp8": "8-bit floats; not in the plan",
        "pissa_init": "decomposes the weights while loading; not in the plan",
        "rope_scaling": "does not change what is allocated at this length",
    },
    edits=(
        Rule("enable_liger_kernel", "training.loss", write=lambda loss: loss == "liger"),
        Rule("flash_attn", "training.attn_implementation", write=lambda kind: _ATTENTION_BACK.get(kind, "auto")),
        Rule("double_quantization", "quantization.bnb_4bit_use_double_quant"),
        Rule("quantization_type", "quantization.bnb_4bit_quant_type"),
        Rule("quantization_bit", "method", write=lambda method: 4 if method == "qlora" else None),
    ),
)
