"""ms-swift YAML.

Keys and defaults from memory, to be checked against modelscope/ms-swift, swift/llm/argument (tuner_args.py:
lora_rank 8, lora_alpha 32, lora_dropout 0.05, target_modules all-linear; train_args.py)
and swift/trainers/arguments.py (gradient_checkpointing
true, batch 1 by its own default).
"""

from typing import Any

from app.imports.attention import put_attention
from app.imports.effects import (
    EVALUATION,
    ONE_CARD,
    PARTIAL,
    PREFERENCES,
    PROJECTED,
    REFERENCE,
    UNSLOTH,
    VOCABULARY,
    WHOLE,
    Effect,
    each,
)
from app.imports.leftout import TRL_HARMLESS
from app.imports.linear_targets import linear_targets
from app.imports.precision import Dtypes, half_precision, put_stack
from app.imports.rules import Reading, Rule, Trainer, listed, words

_NO_METHOD = Effect("no formula for this way of tuning; planned as LoRA", "as LoRA", saves=True)


def _settle(reading: Reading) -> None:
    config = reading.config
    key = next((name for name in ("tuner_type", "train_type", "sft_type") if config.get(name)), "train_type")
    kind = config.get(key, "lora")
    method, bits = config.get("quant_method"), config.get("quant_bits", config.get("quantization_bit"))
    if kind not in ("lora", "full"):
        reading.leave_out(key, _NO_METHOD)
    quantized = kind != "full" and bits in (4, 8)
    reading.use(key, "method", "full" if kind == "full" else "qlora" if quantized else "lora")
    half = half_precision(reading, bf16=reading.on("bf16"), fp16=reading.on("fp16"))
    said = str(config.get("torch_dtype") or half or "bfloat16").removeprefix("torch.")
    dtype = {"bf16": "bfloat16", "fp16": "float16"}.get(said, said)
    if quantized and bits == 8:
        reading.use("quant_bits", "quantization", {"load_in_8bit": True})
    elif quantized:
        reading.use("quant_bits", "quantization", {"load_in_4bit": True})
        reading.put("quantization.bnb_4bit_quant_type", config.get("bnb_4bit_quant_type", "nf4"))
        reading.put("quantization.bnb_4bit_use_double_quant", config.get("bnb_4bit_use_double_quant", True))
        reading.put("quantization.bnb_4bit_compute_dtype", dtype)
    if bits and (bits not in (4, 8) or method not in (None, "bnb")):
        reading.leave_out("quant_method" if method else "quant_bits", Effect("planned as bitsandbytes", saves=True))
    # swift/trainers: torch_dtype decides what is autocast to where neither bf16 nor fp16 is said.
    autocast = half or (dtype if dtype in ("bfloat16", "float16") else None)
    put_stack(reading, "trainer", Dtypes(dtype, autocast, "float32"), "from torch_dtype")
    everything = linear_targets(reading.get("model"))
    if kind != "full" and reading.get("lora.target_modules") in (None, ["all-linear"], ["auto"]):
        reading.put("lora.target_modules", everything)
    if config.get("attn_impl") not in (None, "flash_attn"):
        put_attention(reading, "attn_impl", config["attn_impl"])
    elif config.get("attn_impl"):
        put_attention(reading, "attn_impl", "flash_attention_2")
    if reading.on("use_liger_kernel"):
        reading.use("use_liger_kernel", "training.loss", "liger")
    if config.get("rlhf_type"):
        reading.leave_out("rlhf_type", PREFERENCES)
    if kind != "full":
        reading.assume("lora.r", 8, "ms-swift's default lora_rank")
        reading.assume("lora.lora_alpha", 32, "ms-swift's default lora_alpha")
        reading.assume("lora.lora_dropout", 0.05, "ms-swift's default lora_dropout")
    reading.assume("training.per_device_train_batch_size", 1, "ms-swift's default")
    reading.assume("training.optim", "adamw_torch_fused", "TrainingArguments' default")
    if not config.get("max_length"):
        why = "not there: as long as the model takes it; planned with 2,048 tokens"
        reading.leave_out("max_length", Effect(why, "with 2,048 tokens"))
    batch, evaluated = reading.get("training.per_device_train_batch_size"), config.get("per_device_eval_batch_size")
    reading.evaluates("per_device_eval_batch_size", evaluated, batch)
    if not reading.on("packing") and not reading.on("padding_free"):
        reading.pads("packing")


def _targets(value: Any) -> Any:
    names = listed(value)
    return value.split() if isinstance(value, str) and "," not in value else names


SWIFT = Trainer(
    id="ms-swift",
    name="ms-swift",
    signature=words(
        "model tuner_type train_type sft_type lora_rank target_modules torch_dtype quant_bits quant_method attn_impl "
        "split_dataset_ratio freeze_vit freeze_llm freeze_aligner rlhf_type target_regex max_length "
        "per_device_train_batch_size output_dir num_train_epochs"
    ),
    rules=(
        Rule("model", "model"),
        Rule("max_length", "training.max_length"),
        Rule("per_device_train_batch_size", "training.per_device_train_batch_size"),
        Rule("gradient_accumulation_steps", "training.gradient_accumulation_steps"),
        Rule("gradient_checkpointing", "training.gradient_checkpointing"),
        Rule("optim", "training.optim"),
        Rule("max_grad_norm", "training.max_grad_norm"),
        Rule("lora_rank", "lora.r"),
        Rule("lora_alpha", "lora.lora_alpha"),
        Rule("lora_dropout", "lora.lora_dropout"),
        Rule("target_modules", "lora.target_modules", _targets, listed),
        Rule("target_regex", "lora.target_modules"),
        Rule("use_dora", "lora.use_dora"),
        Rule("use_rslora", "lora.use_rslora"),
    ),
    settle=_settle,
    handled=words(
        "tuner_type train_type sft_type quant_method quant_bits quantization_bit bnb_4bit_quant_type torch_dtype bf16 "
        "fp16 bnb_4bit_use_double_quant bnb_4bit_compute_dtype attn_impl use_liger_kernel rlhf_type packing "
        "padding_free per_device_eval_batch_size"
    ),
    harmless=TRL_HARMLESS
    | words(
        """
dataset val_dataset split_dataset_ratio system template model_type model_author model_name columns dataset_shuffle
num_labels truncation_strategy lazy_tokenize streaming save_only_model warmup_ratio use_hf freeze_vit freeze_aligner
loss_scale agent_template create_checkpoint_symlink add_version deepspeed_autotp_size task_type
"""
    ),
    unmodelled={
        **each("deepspeed fsdp sequence_parallel_size device_map tensor_parallel_size", ONE_CARD),
        **each("beta num_generations use_vllm vllm_mode vllm_gpu_memory_utilization reward_funcs", PREFERENCES),
        **each("ref_model reward_model", REFERENCE),
        "modules_to_save": WHOLE,
        "tuner_backend": UNSLOTH,
        "freeze_llm": PARTIAL,
        "freeze_parameters": PARTIAL,
        "freeze_parameters_ratio": PARTIAL,
        "trainable_parameters": PARTIAL,
        **each("use_galore lisa_activated_layers galore_rank", PROJECTED),
        "new_special_tokens": VOCABULARY,
        "eval_use_evalscope": EVALUATION,
    },
)  # fmt: skip
