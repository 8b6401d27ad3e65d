"""Trainers whose files have sections: Unsloth Studio, AutoTrain and oumi.

Keys of Unsloth as read in unslothai/unsloth studio/backend/assets/configs; of the others from memory, to be checked
against huggingface/autotrain-advanced
src/autotrain/trainers/clm/params.py and oumi-ai/oumi src/oumi/core/configs/params. Advice is not written back into
them: a section is one value to the editor.
"""

from typing import Any

from app.imports.attention import put_attention
from app.imports.effects import ONE_CARD, PARTIAL, PREFERENCES, UNSLOTH, WHOLE, Effect, each
from app.imports.linear_targets import linear_targets
from app.imports.precision import Dtypes, four_bits, put_stack
from app.imports.rules import Reading, Rule, Trainer, listed, words


def names_or_all(value: Any) -> Any:
    """`all-linear` alone, or names."""
    names = listed(value)
    return names[0] if names in (["all-linear"], ["linear-names"]) else names


def _settle_studio(reading: Reading) -> None:
    """Unsloth: 4-bit bases come with nested quantization, LoRA trains in float32 under bfloat16 autocast."""
    full = reading.config.get("training.training_type") == "full"
    four = reading.on("training.load_in_4bit") and not full
    key = "training.training_type" if "training.training_type" in reading.config else "training.load_in_4bit"
    reading.use(key, "method", "full" if full else "qlora" if four else "lora")
    if four:
        four_bits(reading, "training.load_in_4bit", nested=True)
    if isinstance(reading.config.get("training.gradient_checkpointing"), str):
        on = reading.config["training.gradient_checkpointing"] not in ("none", "false")
        reading.use("training.gradient_checkpointing", "training.gradient_checkpointing", on)
    reading.leave_out("model", UNSLOTH)
    if full:
        reading.document.pop("lora", None)
    reading.assume("training.optim", "adamw_8bit", "Studio's default optimizer")
    reading.assume("training.per_device_train_batch_size", 2, "Studio's default batch_size")
    reading.assume("training.max_length", 2048, "Studio's default max_seq_length")
    if not reading.on("training.packing"):
        reading.pads("training.packing")


STUDIO = Trainer(
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
    settle=_settle_studio,
    handled=words(
        "training.training_type training.load_in_4bit training.gradient_checkpointing training.packing"
    ),
    harmless=words(
        """
data.dataset data.format_type data.split data.subset training.output_dir training.num_epochs training.learning_rate
training.warmup_steps training.warmup_ratio training.max_steps training.save_steps training.weight_decay
training.random_seed training.train_on_completions training.lr_scheduler_type training.trust_remote_code
logging.enable_wandb logging.wandb_project logging.enable_tensorboard logging.tensorboard_dir logging.log_frequency
lora.use_loftq lora.finetune_vision_layers lora.finetune_language_layers lora.finetune_attention_modules
lora.finetune_mlp_modules lora.vision_all_linear inference.temperature inference.top_p inference.top_k inference.min_p
"""
    ),
)  # fmt: skip


def _settle_autotrain(reading: Reading) -> None:
    config = reading.config
    task = str(config.get("task", "llm-sft"))
    if task not in ("llm", "llm-sft", "llm-generic"):
        reading.leave_out("task", PREFERENCES)
    peft, bits = reading.on("params.peft"), config.get("params.quantization")
    key = "params.quantization" if bits else "params.peft"
    quantized = peft and bits in ("int4", "int8")
    reading.use(key, "method", "qlora" if quantized else "lora" if peft else "full")
    if quantized and bits == "int4":
        four_bits(reading, "params.quantization")
    elif quantized:
        reading.use("params.quantization", "quantization", {"load_in_8bit": True})
    elif bits:
        reading.leave_out("params.quantization", Effect(f"{bits} is not planned", "without quantization", saves=True))
    half = {"bf16": "bfloat16", "fp16": "float16"}.get(str(config.get("params.mixed_precision")))
    if half and reading.get("quantization.load_in_4bit"):
        reading.put("quantization.bnb_4bit_compute_dtype", half)
    put_stack(reading, "trainer", Dtypes(half or "float32", half, "float32"), "from mixed_precision")
    if config.get("params.disable_gradient_checkpointing") is True:
        reading.use("params.disable_gradient_checkpointing", "training.gradient_checkpointing", False)
    reading.assume("lora.target_modules", linear_targets(reading.get("model")), "AutoTrain's default: all-linear")
    reading.assume("lora.r", 16, "AutoTrain's default lora_r")
    reading.assume("training.per_device_train_batch_size", 2, "AutoTrain's default batch_size")
    reading.assume("training.gradient_accumulation_steps", 4, "AutoTrain's default gradient_accumulation")
    reading.assume("training.optim", "adamw_torch", "AutoTrain's default optimizer")
    reading.assume("training.max_length", 1024, "AutoTrain's default block_size")
    reading.pads("a packed trainer")


AUTOTRAIN = Trainer(
    id="autotrain",
    name="AutoTrain",
    sections=words("data params hub"),
    signature=words(
        "task project_name backend log params.block_size params.model_max_length params.batch_size params.peft "
        "params.quantization params.mixed_precision params.scheduler data.path hub.username hub.push_to_hub"
    ),
    rules=(
        Rule("base_model", "model"),
        Rule("params.block_size", "training.max_length"),
        Rule("params.batch_size", "training.per_device_train_batch_size"),
        Rule("params.gradient_accumulation", "training.gradient_accumulation_steps"),
        Rule("params.optimizer", "training.optim"),
        Rule("params.target_modules", "lora.target_modules", names_or_all),
        Rule("params.lora_r", "lora.r"),
        Rule("params.lora_alpha", "lora.lora_alpha"),
        Rule("params.lora_dropout", "lora.lora_dropout"),
        Rule("params.max_grad_norm", "training.max_grad_norm"),
    ),
    settle=_settle_autotrain,
    handled=words(
        "task params.peft params.quantization params.mixed_precision params.disable_gradient_checkpointing"
    ),
    harmless=words(
        """
project_name log backend data.path data.train_split data.valid_split data.chat_template data.column_mapping
params.model_max_length params.epochs params.lr params.padding params.scheduler params.warmup_ratio
params.weight_decay params.seed params.logging_steps params.save_total_limit params.add_eos_token params.chat_template
params.trainer hub.username hub.token hub.push_to_hub params.merge_adapter
"""
    ),
    unmodelled={
        **each("params.model_ref params.dpo_beta params.max_prompt_length", PREFERENCES),
        "params.use_flash_attention_2": Effect("another kernel; planned with the model's own", saves=True),
        "params.unsloth": UNSLOTH,
        "params.auto_find_batch_size": Effect("halves the batch after running out", saves=True),
        **each("params.distributed_backend", ONE_CARD),
    },
)  # fmt: skip


def _settle_oumi(reading: Reading) -> None:
    config = reading.config
    trainer = str(config.get("training.trainer_type", "TRL_SFT")).upper()
    if trainer not in ("TRL_SFT", "HF"):
        reading.leave_out("training.trainer_type", PREFERENCES)
    peft = reading.on("training.use_peft")
    four = peft and reading.on("peft.q_lora") and config.get("peft.q_lora_bits", 4) == 4
    eight = peft and reading.on("peft.q_lora") and not four
    key = "peft.q_lora" if four or eight else "training.use_peft"
    reading.use(key, "method", "qlora" if four or eight else "lora" if peft else "full")
    if four:
        four_bits(reading, "peft.q_lora", nested=reading.on("peft.use_bnb_nested_quant"))
    elif eight:
        reading.use("peft.q_lora_bits", "quantization", {"load_in_8bit": True})
    said = str(config.get("model.torch_dtype_str", "float32")).removeprefix("torch.")
    dtype = {"bf16": "bfloat16", "fp16": "float16", "float": "float32"}.get(said, said)
    precision = str(config.get("training.mixed_precision_dtype", "none")).lower()
    half = {"bf16": "bfloat16", "fp16": "float16"}.get(precision)
    put_stack(reading, "trainer", Dtypes(dtype, half, "float32"), "from torch_dtype_str and mixed_precision_dtype")
    if config.get("model.attn_implementation"):
        put_attention(reading, "model.attn_implementation", config["model.attn_implementation"])
    if not peft:
        reading.document.pop("lora", None)
    else:
        reading.assume("lora.r", 8, "oumi's default lora_r")
        reading.assume("lora.target_modules", ["q_proj", "v_proj"], "PEFT's own choice for most decoders")
    reading.assume("training.gradient_checkpointing", False, "oumi checkpoints only when told to")
    reading.assume("training.per_device_train_batch_size", 8, "oumi's default")
    reading.assume("training.optim", "adamw_torch", "oumi's default optimizer")
    reading.pads("a packed dataset")


OUMI = Trainer(
    id="oumi",
    name="oumi",
    sections=words("model training peft data fsdp"),
    signature=words(
        "model.model_name model.model_max_length model.torch_dtype_str training.trainer_type training.use_peft "
        "training.optimizer training.enable_gradient_checkpointing peft.q_lora fsdp.enable_fsdp data.train"
    ),
    rules=(
        Rule("model.model_name", "model"),
        Rule("model.model_max_length", "training.max_length"),
        Rule("training.per_device_train_batch_size", "training.per_device_train_batch_size"),
        Rule("training.gradient_accumulation_steps", "training.gradient_accumulation_steps"),
        Rule("training.enable_gradient_checkpointing", "training.gradient_checkpointing"),
        Rule("training.optimizer", "training.optim"),
        Rule("training.max_grad_norm", "training.max_grad_norm"),
        Rule("peft.lora_r", "lora.r"),
        Rule("peft.lora_alpha", "lora.lora_alpha"),
        Rule("peft.lora_dropout", "lora.lora_dropout"),
        Rule("peft.lora_target_modules", "lora.target_modules", names_or_all),
    ),
    settle=_settle_oumi,
    handled=words(
        "training.trainer_type training.use_peft peft.q_lora peft.q_lora_bits peft.use_bnb_nested_quant "
        "model.torch_dtype_str model.attn_implementation training.mixed_precision_dtype"
    ),
    harmless=words(
        """
data.train data.validation data.test training.learning_rate training.num_train_epochs training.max_steps
training.warmup_ratio training.warmup_steps training.lr_scheduler_type training.weight_decay training.output_dir
training.save_steps training.save_epoch training.save_final_model training.logging_steps training.run_name
training.enable_wandb training.enable_tensorboard training.seed training.ddp_find_unused_parameters
training.dataloader_num_workers training.dataloader_prefetch_factor training.include_performance_metrics
training.log_model_summary training.empty_device_cache_steps training.adam_beta1 training.adam_beta2
training.adam_epsilon training.try_resume_from_last_checkpoint training.eval_strategy training.optimizer_name
model.trust_remote_code model.tokenizer_name model.chat_template model.load_pretrained_weights model.tokenizer_pad_token
peft.lora_task_type peft.lora_bias peft.bnb_4bit_quant_type peft.bnb_4bit_compute_dtype
training.gradient_checkpointing_kwargs
"""
    ),
    unmodelled={
        **each("fsdp.enable_fsdp fsdp.sharding_strategy fsdp.cpu_offload deepspeed", ONE_CARD),
        "peft.lora_modules_to_save": WHOLE,
        **each("training.compile model.compile", Effect("compiled graphs save other activations", saves=True)),
        "model.enable_liger_kernel": Effect("Liger's kernels keep less; planned without", "without Liger", saves=True),
        "model.freeze_layers": PARTIAL,
    },
)  # fmt: skip
