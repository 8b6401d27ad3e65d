"""Axolotl YAML.

Keys and defaults as read in https://github.com/axolotl-ai-cloud/axolotl, src/axolotl/utils/schemas: `training.py`
(micro_batch_size 1, gradient_accumulation_steps 1, optimizer adamw_torch_fused), `config.py` (sequence_len 512,
gradient_checkpointing false) and `peft.py` (no default rank, lora_dropout 0, what `adapter` goes with). Quantization:
src/axolotl/loaders/model.py, which also upcasts (prepare_model_for_kbit_training) and converts back for an adapter.
"""

from typing import Any

from app.imports.rules import Ignored, Reading, Rule, Trainer, listed, words

_ATTENTION = {"flash_attention": "flash_attention_2", "sdp_attention": "sdpa", "eager_attention": "eager"}
_OPTIMIZERS = {"adamw_torch_8bit": "adamw_8bit", "adamw_hf": "adamw_torch"}


def _optimizer(value: Any) -> Any:
    return _OPTIMIZERS.get(value, value)


def _checkpointing(value: Any) -> Any:
    # "unsloth", "offload" and "offload_disk" checkpoint too, and move the checkpoints elsewhere; settle() says so.
    return True if isinstance(value, str) else value


def _settle(reading: Reading) -> None:
    config = reading.config
    _method(reading)
    if reading.on("lora_target_linear"):
        if config.get("lora_target_modules"):
            reading.contradict("lora_target_modules", "lora_target_linear: true targets every linear layer; keep one")
        reading.use("lora_target_linear", "lora.target_modules", "all-linear")
    elif reading.document.get("method") != "full" and not config.get("lora_target_modules"):
        reading.contradict("lora_target_modules", "missing; name the modules, or set lora_target_linear: true")
    if config.get("adapter") and not config.get("lora_r"):
        reading.contradict("lora_r", "missing; Axolotl has no default rank")
    _attention(reading)
    _precision(reading)
    if isinstance(config.get("gradient_checkpointing"), str):
        reading.ignored.append(Ignored("gradient_checkpointing", "planned as plain checkpointing, on the card", True))
    kwargs = config.get("gradient_checkpointing_kwargs")
    if isinstance(kwargs, dict) and isinstance(kwargs.get("use_reentrant"), bool):
        reading.use("gradient_checkpointing_kwargs", "training.use_reentrant", kwargs["use_reentrant"])
    if reading.on("liger_fused_linear_cross_entropy"):
        reading.use("liger_fused_linear_cross_entropy", "training.loss", "liger")
    if (
        config.get("sample_packing") is False
        and config.get("pad_to_sequence_len")
        and reading.document["training"].get("per_device_train_batch_size", 1) > 1
    ):
        reading.use("pad_to_sequence_len", "training.padded", True)
    reading.assume("training.per_device_train_batch_size", 1, "Axolotl's default micro_batch_size")
    reading.assume("training.gradient_checkpointing", False, "Axolotl checkpoints only when told to")
    reading.assume("training.optim", "adamw_torch_fused", "Axolotl's default optimizer")
    reading.assume("training.max_length", 512, "Axolotl's default sequence_len")


def _method(reading: Reading) -> None:
    config = reading.config
    four, eight = reading.on("load_in_4bit"), reading.on("load_in_8bit")
    adapter = config.get("adapter")
    if four and eight:
        reading.contradict("load_in_8bit", "load_in_4bit is true as well; keep one")
    if adapter == "qlora" and not four:
        reading.contradict("adapter", "qlora needs load_in_4bit: true, and Axolotl refuses it otherwise")
    if not adapter and (four or eight):
        reading.contradict("adapter", "missing; quantized weights cannot be trained without one")
    quantized = four or eight or adapter == "qlora"
    method = "qlora" if quantized else "lora" if adapter else "full"
    reading.use("adapter", "method", method)
    if not quantized:
        return
    reading.use("load_in_8bit" if eight and not four else "load_in_4bit", "quantization", {})
    # Axolotl's own bnb_config: nf4, double quantization, compute in torch_dtype (_set_quantization_config).
    given = config.get("bnb_config_kwargs")
    kwargs = given if isinstance(given, dict) else {}
    if eight and not four:
        reading.put("quantization.load_in_8bit", True)
        return
    reading.put("quantization.load_in_4bit", True)
    reading.put("quantization.bnb_4bit_quant_type", kwargs.get("bnb_4bit_quant_type", "nf4"))
    reading.put("quantization.bnb_4bit_use_double_quant", kwargs.get("bnb_4bit_use_double_quant", True))


def _attention(reading: Reading) -> None:
    on = [key for key in _ATTENTION if reading.on(key)]
    for key in on[1:]:
        reading.contradict(key, f"{on[0]}: true as well; keep one")
    if on:
        reading.use(on[0], "training.attn_implementation", _ATTENTION[on[0]])


def _precision(reading: Reading) -> None:
    half = reading.config.get("fp16") is True
    if half and reading.config.get("bf16") is True:
        reading.contradict("fp16", "bf16: true as well; keep one")
    if reading.document["method"] == "qlora" and reading.document["quantization"].get("load_in_4bit"):
        key = "fp16" if half else "bf16"
        reading.use(key, "quantization.bnb_4bit_compute_dtype", "float16" if half else "bfloat16")


AXOLOTL = Trainer(
    id="axolotl",
    name="Axolotl",
    signature=words(
        "base_model micro_batch_size sequence_len adapter lora_target_linear sample_packing datasets val_set_size"
    ),
    rules=(
        Rule("base_model", "model"),
        Rule("sequence_len", "training.max_length"),
        Rule("micro_batch_size", "training.per_device_train_batch_size"),
        Rule("gradient_accumulation_steps", "training.gradient_accumulation_steps"),
        Rule("gradient_checkpointing", "training.gradient_checkpointing", _checkpointing),
        Rule("optimizer", "training.optim", _optimizer),
        Rule("attn_implementation", "training.attn_implementation"),
        Rule("max_grad_norm", "training.max_grad_norm"),
        Rule("lora_r", "lora.r"),
        Rule("lora_alpha", "lora.lora_alpha"),
        Rule("lora_dropout", "lora.lora_dropout"),
        Rule("lora_target_modules", "lora.target_modules", listed, listed),
        Rule("peft_use_dora", "lora.use_dora"),
        Rule("peft_use_rslora", "lora.use_rslora"),
    ),
    settle=_settle,
    handled=words(
        "adapter load_in_4bit load_in_8bit bnb_config_kwargs lora_target_linear flash_attention sdp_attention "
        "eager_attention bf16 fp16 gradient_checkpointing_kwargs liger_fused_linear_cross_entropy "
        "sample_packing pad_to_sequence_len"
    ),
    harmless=words(
        "model_type tokenizer_type tokenizer_config trust_remote_code hub_model_id datasets "
        "dataset_prepared_path val_set_size output_dir wandb_project wandb_entity wandb_watch wandb_name "
        "wandb_log_model num_epochs max_steps lr_scheduler learning_rate train_on_inputs group_by_length tf32 "
        "early_stopping_patience resume_from_checkpoint local_rank logging_steps warmup_steps warmup_ratio "
        "evals_per_epoch saves_per_epoch eval_steps save_steps save_total_limit debug weight_decay "
        "special_tokens chat_template seed strict save_first_step save_safetensors shuffle_merged_datasets "
        "adam_beta1 adam_beta2 adam_epsilon cosine_min_lr_ratio plugins liger_rope liger_rms_norm "
        "liger_glu_activation liger_layer_norm is_llama_derived_model tokens loss_watchdog_threshold "
        "loss_watchdog_patience eval_table_size eval_max_new_tokens rl save_strategy eval_strategy"
    ),
    unmodelled={
        "deepspeed": "moves memory between cards; one card is planned",
        "fsdp": "shards over cards; one card is planned",
        "fsdp_config": "shards over cards; one card is planned",
        "fsdp_version": "shards over cards; one card is planned",
        "tensor_parallel_size": "splits layers over cards; one card is planned",
        "context_parallel_size": "splits sequences over cards; one card is planned",
        "sequence_parallel_degree": "splits sequences over cards; one card is planned",
        "cut_cross_entropy": "never builds the logits; set the loss to Liger for a close figure",
        "xformers_attention": "no formula for xformers; planned with the model's default attention",
        "flex_attention": "no formula for flex attention; planned with the model's default attention",
        "unsloth_cross_entropy_loss": "no formula for Unsloth's kernels",
        "unsloth_lora_mlp": "no formula for Unsloth's kernels",
        "unsloth_lora_qkv": "no formula for Unsloth's kernels",
        "unsloth_lora_o": "no formula for Unsloth's kernels",
        "lora_mlp_kernel": "fused LoRA kernels save activations; planned without them",
        "lora_qkv_kernel": "fused LoRA kernels save activations; planned without them",
        "lora_o_kernel": "fused LoRA kernels save activations; planned without them",
        "lora_modules_to_save": "trains whole modules beside the adapters; not in the plan",
        "lora_target_parameters": "adapters on bare parameters; not in the plan",
        "embeddings_skip_upcast": "skips a passing float32 copy of the embeddings while loading",
        "relora_steps": "merges and restarts adapters; not in the plan",
        "eval_batch_size": "evaluation is not in the plan",
        "torch_compile": "compiled graphs save other activations; planned without",
        "qat": "quantization-aware training; not in the plan",
        "peft": "its own quantization backend or LoftQ; planned as load_in_4bit and load_in_8bit say",
        "gptq": "trains over GPTQ weights; not in the plan",
        "peft_layers_to_transform": "adapts some layers only; planned with all of them",
        "auto_find_batch_size": "halves the batch after running out; the batch stated is planned",
        "unfrozen_parameters": "trains a part of the weights; planned with all of them",
        "activation_offloading": "moves checkpoints to the host; planned on the card",
        "eval_sample_packing": "evaluation is not in the plan",
    },
    edits=(
        Rule("liger_fused_linear_cross_entropy", "training.loss", write=lambda loss: loss == "liger"),
        Rule("attn_implementation", "training.attn_implementation"),
    ),
)
