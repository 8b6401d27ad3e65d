"""oumi YAML.

Keys and defaults as read in oumi-ai/oumi (d8ed0777), src/oumi/core/configs/params: training_params.py (batch 8,
adamw_torch, no checkpointing, no autocast), peft_params.py (rank 8, alpha 8, no dropout; 4 bits of FP4 that compute
in float32) and model_params.py (torch_dtype_str auto). What is built from them: src/oumi/builders/models.py
(prepare_model_for_kbit_training for q_lora; Liger's patches).
"""

from typing import Any

from app.imports.adapters.options import adapter_options
from app.imports.adapters.peft_targets import default_targets
from app.imports.attention import put_attention
from app.imports.effects import IMAGES, PREFERENCES, Effect
from app.imports.ignored_keys import ignored_keys
from app.imports.precision import Dtypes, dtype_name, four_bits, put_stack
from app.imports.rules import Reading, Rule, Trainer, listed, names_or_all, words


def _settle(reading: Reading) -> None:
    config = reading.config
    if str(config.get("training.trainer_type", "HF")).upper() not in ("TRL_SFT", "HF"):
        reading.leave_out("training.trainer_type", PREFERENCES)
    peft = reading.on("training.use_peft")
    quantized = peft and reading.on("peft.q_lora")
    key = "peft.q_lora" if quantized else "training.use_peft"
    reading.use(key, "method", "qlora" if quantized else "lora" if peft else "full")
    if quantized:
        _quantization(reading)
    said = dtype_name(config.get("model.torch_dtype_str", "auto"))
    precision = str(config.get("training.mixed_precision_dtype", "none")).lower()
    half = {"bf16": "bfloat16", "fp16": "float16"}.get(precision)
    if half is None and precision != "none":
        reading.contradict("training.mixed_precision_dtype", f"must be none, bf16 or fp16; got {precision[:40]!r}")
    dtypes = Dtypes("bfloat16" if said == "auto" else said, half, "float32")
    reason = "from torch_dtype_str and mixed_precision_dtype; auto is planned as bfloat16"
    put_stack(reading, "kbit" if quantized else "trainer", dtypes, reason)
    if config.get("model.attn_implementation"):
        put_attention(reading, "model.attn_implementation", config["model.attn_implementation"])
    if reading.on("model.enable_liger_kernel"):
        reading.use("model.enable_liger_kernel", "training.loss", "liger")
    if not peft:
        reading.document.pop("lora", None)
    else:
        _adapters(reading)
    if not config.get("model.model_max_length"):
        why = "not there: as long as the model takes it; planned with 2,048 tokens"
        reading.leave_out("model.model_max_length", Effect(why, "with 2,048 tokens"))
    reading.use_reentrant("training.gradient_checkpointing_kwargs")
    if "vision" in str(config.get("data.train")):  # collator_name: vision_language_with_padding
        reading.leave_out("data.train", IMAGES)
    reading.assume("training.gradient_checkpointing", False, "oumi checkpoints only when told to")
    reading.assume("training.per_device_train_batch_size", 8, "oumi's default")
    reading.assume("training.optim", "adamw_torch", "oumi's default optimizer")
    evaluates = config.get("training.eval_strategy", "no") not in ("no", False)
    evaluated: Any = config.get("training.per_device_eval_batch_size", 8 if evaluates else None)
    key = "training.per_device_eval_batch_size"
    reading.evaluates(key, evaluated, reading.get("training.per_device_train_batch_size"))
    reading.pads("a packed dataset")


def _quantization(reading: Reading) -> None:
    config = reading.config
    bits = config.get("peft.q_lora_bits", 4)
    if bits == 8:
        reading.use("peft.q_lora_bits", "quantization", {"load_in_8bit": True})
        return
    if bits != 4:
        reading.leave_out("peft.q_lora_bits", Effect(f"{bits} bits are not planned", "with 4 bits", saves=True))
    compute = dtype_name(config.get("peft.bnb_4bit_compute_dtype", "float32"))
    kind, nested = config.get("peft.bnb_4bit_quant_type", "fp4"), reading.on("peft.use_bnb_nested_quant")
    four_bits(reading, "peft.q_lora", kind=kind, nested=nested, compute=compute)


def _adapters(reading: Reading) -> None:
    reading.assume("lora.r", 8, "oumi's default lora_r")
    if reading.get("lora.target_modules") is None:
        targets = default_targets(reading.document.get("model", ""), reading.get("lora.target_parameters"))
        if targets is None:
            reading.contradict("peft.lora_target_modules", "missing, and PEFT has no default for this model; name them")
        else:
            reading.assume("lora.target_modules", list(targets), "PEFT's own choice for this kind of model")


OUMI = Trainer(
    id="oumi",
    name="oumi",
    sections=words("model training peft data fsdp deepspeed"),
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
        *adapter_options(
            exclude_modules="peft.lora_exclude_modules", init_lora_weights="peft.lora_init_weights",
            target_parameters="peft.lora_target_parameters", bias="peft.lora_bias",
        ),
        Rule("peft.lora_modules_to_save", "lora.modules_to_save", listed),
        Rule("peft.lora_target_modules", "lora.target_modules", names_or_all),
    ),
    settle=_settle,
    handled=words(
        "training.trainer_type training.use_peft peft.q_lora peft.q_lora_bits peft.use_bnb_nested_quant "
        "peft.bnb_4bit_quant_type peft.bnb_4bit_compute_dtype model.torch_dtype_str model.attn_implementation "
        "training.mixed_precision_dtype model.enable_liger_kernel training.per_device_eval_batch_size "
        "training.eval_strategy training.gradient_checkpointing_kwargs data.train"
    ),
    ignored=ignored_keys("oumi"),
)  # fmt: skip
