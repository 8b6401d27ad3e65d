"""TrainingArguments, SFTConfig and TRL's ModelConfig as JSON or YAML: transformers 5.23 and TRL 1.16."""

from app.imports.rules import Reading, Rule, Trainer, listed, words

_TRL_ONLY = words(
    "max_length max_seq_length packing dataset_text_field completion_only_loss assistant_only_loss "
    "loss_type padding_free use_peft use_bnb_nested_quant truncation_mode packing_strategy"
)
# TRL 1.16, trainer/sft_config.py: nll works through the output head in chunks, chunked_nll is its deprecated alias.
_LOSSES = {"nll": "chunked", "chunked_nll": "chunked", "dft": "full_logits"}


def _settle(reading: Reading) -> None:
    config = reading.config
    is_trl = bool(_TRL_ONLY & set(config))
    four, eight = reading.on("load_in_4bit"), reading.on("load_in_8bit")
    has_lora = reading.on("use_peft") or any(key.startswith("lora_") for key in config)
    if config.get("use_peft") is False and (four or eight):
        reading.contradict("use_peft", "quantized weights cannot be trained without adapters; set it to true")
    if four and eight:
        reading.contradict("load_in_8bit", "load_in_4bit is true as well; keep one")
    method = "qlora" if four or eight else "lora" if has_lora else "full"
    reading.assume("method", method, "from load_in_4bit, load_in_8bit and the lora_ keys")
    _precision(reading, is_trl)
    if four:
        reading.use("load_in_4bit", "quantization.load_in_4bit", True)
        reading.put("quantization.bnb_4bit_quant_type", config.get("bnb_4bit_quant_type", "nf4"))
        nested = config.get("use_bnb_nested_quant", config.get("bnb_4bit_use_double_quant", False))
        reading.put("quantization.bnb_4bit_use_double_quant", nested)
    elif eight:
        reading.use("load_in_8bit", "quantization.load_in_8bit", True)
    _step(reading, is_trl)
    if method != "full":
        reading.assume("lora.r", 16, "TRL ModelConfig's default")
        reading.assume("lora.lora_dropout", 0.05, "TRL ModelConfig's default")


def _precision(reading: Reading, is_trl: bool) -> None:
    """bf16 is SFTConfig's default and not TrainingArguments'; without either the Trainer does not autocast."""
    config = reading.config
    half, brain = reading.on("fp16"), reading.on("bf16") or (is_trl and config.get("bf16") is None)
    if half and reading.on("bf16"):
        reading.contradict("fp16", "bf16: true as well; keep one")
    if reading.on("load_in_4bit"):
        dtype = config.get("bnb_4bit_compute_dtype") or config.get("dtype") or config.get("torch_dtype")
        key = next((name for name in ("bnb_4bit_compute_dtype", "dtype", "torch_dtype") if name in config), "bf16")
        fallback = "float16" if half else "bfloat16" if brain else "float32"
        known = dtype if dtype not in (None, "auto") else fallback
        reading.use(key, "quantization.bnb_4bit_compute_dtype", known)
    if is_trl:
        reading.assume("stack", "trl", "keys that only TRL's SFTConfig and ModelConfig have")
    else:
        reason = "plain TrainingArguments" if half or brain else "neither bf16 nor fp16: no autocast"
        reading.assume("stack", "trainer" if half or brain else "loop", reason)


def _step(reading: Reading, is_trl: bool) -> None:
    config = reading.config
    kwargs = config.get("gradient_checkpointing_kwargs")
    if isinstance(kwargs, dict) and isinstance(kwargs.get("use_reentrant"), bool):
        reading.use("gradient_checkpointing_kwargs", "training.use_reentrant", kwargs["use_reentrant"])
    if "max_seq_length" in config and "max_length" in config and config["max_seq_length"] != config["max_length"]:
        reading.contradict("max_seq_length", "the old name of max_length, with another value; keep max_length")
    if reading.on("use_liger_kernel"):
        reading.use("use_liger_kernel", "training.loss", "liger")
    elif config.get("loss_type") in _LOSSES:
        reading.use("loss_type", "training.loss", _LOSSES[config["loss_type"]])
    elif is_trl:
        reading.assume("training.loss", "chunked", "SFTConfig's default loss_type, nll, works in chunks")
    reading.assume("training.per_device_train_batch_size", 8, "TrainingArguments' default")
    reading.assume("training.optim", "adamw_torch_fused", "TrainingArguments' default")
    reading.assume("training.gradient_checkpointing", is_trl, "SFTConfig checkpoints by default, TrainingArguments not")
    if is_trl:
        reading.assume("training.max_length", 1024, "SFTConfig's default")


TRL = Trainer(
    id="trl",
    name="TRL / TrainingArguments",
    signature=_TRL_ONLY
    | words("per_device_train_batch_size output_dir model_name_or_path num_train_epochs save_strategy"),
    rules=(
        Rule("model_name_or_path", "model"),
        Rule("model_name", "model"),
        Rule("max_length", "training.max_length"),
        Rule("max_seq_length", "training.max_length"),
        Rule("per_device_train_batch_size", "training.per_device_train_batch_size"),
        Rule("gradient_accumulation_steps", "training.gradient_accumulation_steps"),
        Rule("gradient_checkpointing", "training.gradient_checkpointing"),
        Rule("activation_checkpointing", "training.gradient_checkpointing"),
        Rule("optim", "training.optim"),
        Rule("attn_implementation", "training.attn_implementation"),
        Rule("max_grad_norm", "training.max_grad_norm"),
        Rule("lora_r", "lora.r"),
        Rule("lora_alpha", "lora.lora_alpha"),
        Rule("lora_dropout", "lora.lora_dropout"),
        Rule("lora_target_modules", "lora.target_modules", listed, listed),
        Rule("use_dora", "lora.use_dora"),
        Rule("use_rslora", "lora.use_rslora"),
    ),
    settle=_settle,
    handled=words(
        "load_in_4bit load_in_8bit bnb_4bit_quant_type use_bnb_nested_quant bnb_4bit_use_double_quant bf16 "
        "fp16 dtype torch_dtype bnb_4bit_compute_dtype use_peft gradient_checkpointing_kwargs "
        "use_liger_kernel loss_type"
    ),
    harmless=words(
        "output_dir learning_rate num_train_epochs max_steps warmup_steps warmup_ratio lr_scheduler_type "
        "lr_scheduler_kwargs logging_steps logging_strategy logging_dir save_steps save_strategy "
        "save_total_limit eval_steps eval_strategy evaluation_strategy report_to run_name seed data_seed "
        "weight_decay adam_beta1 adam_beta2 adam_epsilon push_to_hub hub_model_id hub_strategy "
        "hub_private_repo dataset_name dataset_config dataset_text_field dataset_num_proc dataset_kwargs "
        "dataset_train_split dataset_test_split packing packing_strategy padding_free completion_only_loss "
        "assistant_only_loss model_revision trust_remote_code lora_task_type do_train do_eval "
        "overwrite_output_dir dataloader_num_workers dataloader_pin_memory dataloader_drop_last "
        "remove_unused_columns group_by_length tf32 load_best_model_at_end metric_for_best_model "
        "greater_is_better disable_tqdm log_level ddp_timeout resume_from_checkpoint truncation_mode "
        "eos_token pad_token chat_template_path streaming shuffle_dataset include_num_input_tokens_seen "
        "label_smoothing_factor neftune_noise_alpha project full_determinism"
    ),
    unmodelled={
        "deepspeed": "moves memory between cards; one card is planned",
        "fsdp": "shards over cards; one card is planned",
        "fsdp_config": "shards over cards; one card is planned",
        "per_device_eval_batch_size": "evaluation is not in the plan",
        "torch_compile": "compiled graphs save other activations; planned without",
        "activation_offloading": "moves checkpoints to the host; planned on the card",
        "lora_modules_to_save": "trains whole modules beside the adapters; not in the plan",
        "lora_target_parameters": "adapters on bare parameters; not in the plan",
        "auto_find_batch_size": "halves the batch after running out; the batch stated is planned",
        "bnb_4bit_quant_storage": "packs the same bytes into another dtype",
    },
    edits=(
        Rule("use_liger_kernel", "training.loss", write=lambda loss: loss == "liger"),
        Rule("use_bnb_nested_quant", "quantization.bnb_4bit_use_double_quant"),
        Rule("bnb_4bit_quant_type", "quantization.bnb_4bit_quant_type"),
    ),
)
