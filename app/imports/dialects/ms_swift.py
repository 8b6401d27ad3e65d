"""ms-swift YAML and command lines.

Keys and defaults as read in modelscope/ms-swift (3602360a), swift/arguments: tuner_args.py (rank 8, alpha 32, dropout
0.05 on all-linear), base_args/quant_args.py (nothing is quantized without quant_method; NF4 with double quantization
that computes in bfloat16 under bfloat16 weights and in float32 under any other), base_args/model_args.py (torch_dtype
from the config.json; bf16 and fp16 follow it) and rlhf_args.py (dpo; a reference model where every weight is trained),
swift/trainers/arguments.py (batch 1, checkpointing on).
"""

from typing import Any

from app.imports.adapters.linear_targets import linear_targets
from app.imports.adapters.options import adapter_options
from app.imports.adapters.peft_methods import read_peft_type
from app.imports.attention import put_attention
from app.imports.effects import PARTIAL, PREFERENCES, SFT, TOWERS, Effect
from app.imports.ignored_keys import ignored_keys
from app.imports.low_rank import read_low_rank
from app.imports.numbers import as_number
from app.imports.precision import Dtypes, dtype_name, half_precision, put_stack
from app.imports.rules import Reading, Rule, Trainer, listed, words
from app.imports.sources.programs import name_the_program
from app.imports.towers import may_see
from planner.answer.not_planned import FrozenCopy, Pairs

_NO_METHOD = Effect("no formula for this way of tuning; planned as LoRA", "as LoRA", saves=True)
_TUNERS = ("tuner_type", "train_type", "sft_type")
_SWITCHES = {"flash_attn": "flash_attention_2"}


def _settle(reading: Reading) -> None:
    config = reading.config
    key = next((name for name in _TUNERS if config.get(name)), "tuner_type")
    kind = config.get(key, "lora")
    if kind not in ("lora", "full", "vera"):
        reading.leave_out(key, _NO_METHOD)
    quantized = _quantizes(reading) and kind != "full"
    reading.use(key, "method", "full" if kind == "full" else "qlora" if quantized else "lora")
    dtype = dtype_name(config.get("torch_dtype") or "bfloat16")
    if quantized:
        _quantization(reading, dtype)
    half = half_precision(reading, bf16=reading.on("bf16"), fp16=reading.on("fp16"))
    follows = "bfloat16" if dtype == "bfloat16" else "float16"
    said = "fp16" in config or "bf16" in config
    reason = "torch_dtype decides what is autocast to" if config.get("torch_dtype") else "the checkpoint's 16 bit"
    put_stack(reading, "trainer", Dtypes(dtype, half if said else follows, "float32"), reason)
    if config.get("attn_impl"):
        put_attention(reading, "attn_impl", _SWITCHES.get(str(config["attn_impl"]), config["attn_impl"]))
    if reading.on("use_liger_kernel"):
        reading.use("use_liger_kernel", "training.loss", "liger")
    if kind == "vera":
        read_peft_type(reading, key, kind)
    if kind != "full":
        _adapters(reading)
    _rlhf(reading, kind)
    if not str(config.get("command")).startswith("swift"):
        name_the_program(reading)
    _towers(reading)
    may_see(reading)
    _step(reading)


def _quantizes(reading: Reading) -> bool:
    """`quant_bits` alone does nothing; `quantization_bit`, its name until 2.x, does."""
    config = reading.config
    if config.get("quant_bits") and not config.get("quant_method"):
        reading.contradict(
            "quant_bits", "has no effect without quant_method, nothing is quantized; say quant_method: bnb"
        )
    return bool(config.get("quant_method") or config.get("quantization_bit"))


def _quantization(reading: Reading, dtype: str) -> None:
    config = reading.config
    key = "quant_method" if config.get("quant_method") else "quantization_bit"
    bits = config.get("quant_bits") or config.get("quantization_bit") or 8  # fp8 names none
    if config.get("quant_method") in ("awq", "gptq", "gptq_v2"):
        reading.document.pop("quantization", None)  # the checkpoint brings its own
        return
    if config.get("quant_method", "bnb") != "bnb" or bits not in (4, 8):
        reading.leave_out(key, Effect("planned as bitsandbytes", "with bitsandbytes", saves=True))
    if bits == 8:
        reading.use(key, "quantization", {"load_in_8bit": True})
        return
    reading.use(key, "quantization", {"load_in_4bit": True})
    reading.put("quantization.bnb_4bit_quant_type", config.get("bnb_4bit_quant_type", "nf4"))
    reading.put("quantization.bnb_4bit_use_double_quant", config.get("bnb_4bit_use_double_quant", True))
    computes = config.get("bnb_4bit_compute_dtype") or ("bfloat16" if dtype == "bfloat16" else "float32")
    reading.put("quantization.bnb_4bit_compute_dtype", dtype_name(computes))


def _adapters(reading: Reading) -> None:
    if reading.get("lora.target_modules") in (None, ["all-linear"], ["auto"]):
        reading.put("lora.target_modules", linear_targets(reading.get("model")))
    if reading.get("lora.peft_type") == "VERA":
        reading.note("lora.r", reading.config.get("vera_rank", 256), "VeRA's own rank")
        reading.note("lora.lora_dropout", reading.config.get("vera_dropout", 0.0), "VeRA's own dropout")
        return
    reading.assume("lora.r", 8, "ms-swift's default lora_rank")
    reading.assume("lora.lora_alpha", 32, "ms-swift's default lora_alpha")
    reading.assume("lora.lora_dropout", 0.05, "ms-swift's default lora_dropout")


def _rlhf(reading: Reading, kind: Any) -> None:
    config = reading.config
    said = config.get("rlhf_type")
    asked = said or ("dpo" if str(config.get("command")).endswith(" rlhf") else None)
    if asked is None:
        return
    second = asked in ("dpo", "kto", "ppo", "grpo")
    planned = f"{SFT}, without {str(asked).upper()}'s reference model" if second else SFT
    copies = second and kind == "full" and not config.get("ref_model")
    alone = FrozenCopy() if copies else None
    least = Pairs(reference=copies) if asked in ("dpo", "orpo", "simpo", "cpo", "rm") else alone
    reading.leave_out("rlhf_type" if said else "command", Effect(PREFERENCES.why, planned), least=least)


def _towers(reading: Reading) -> None:
    """By default the tower and the aligner are frozen, and the language model is not."""
    for key in ("freeze_vit", "freeze_aligner"):
        if key in reading.config and not reading.on(key):
            reading.leave_out(key, TOWERS)
    if reading.on("freeze_llm"):
        reading.leave_out("freeze_llm", PARTIAL)


def _step(reading: Reading) -> None:
    config = reading.config
    reading.use_reentrant("gradient_checkpointing_kwargs")
    reading.assume("training.per_device_train_batch_size", 1, "ms-swift's default")
    reading.assume("training.gradient_checkpointing", True, "ms-swift's default")
    read_low_rank(reading)
    reading.assume("training.optim", "adamw_torch_fused", "TrainingArguments' default")
    if not config.get("max_length"):
        why = "not there: as long as the model takes it; planned with 2,048 tokens"
        reading.leave_out("max_length", Effect(why, "with 2,048 tokens"))
    batch, evaluated = reading.get("training.per_device_train_batch_size"), config.get("per_device_eval_batch_size")
    reading.evaluates("per_device_eval_batch_size", evaluated, batch, planned=not config.get("rlhf_type"))
    if not reading.on("packing") and not reading.on("padding_free"):
        reading.pads("packing")


def _targets(value: Any) -> Any:
    return value.split() if isinstance(value, str) and "," not in value else listed(value)


MS_SWIFT = Trainer(
    id="ms-swift",
    name="ms-swift",
    signature=words(
        "model tuner_type train_type sft_type lora_rank target_modules torch_dtype quant_bits quant_method attn_impl "
        "split_dataset_ratio freeze_vit freeze_llm freeze_aligner rlhf_type target_regex max_length "
        "per_device_train_batch_size output_dir num_train_epochs"
    ),
    rules=(
        Rule("neftune_noise_alpha", "training.neftune_noise_alpha", as_number),
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
        *adapter_options(init_lora_weights="init_weights", target_parameters="target_parameters"),
        Rule("modules_to_save", "lora.modules_to_save", listed),
        Rule("use_dora", "lora.use_dora"),
        Rule("use_rslora", "lora.use_rslora"),
    ),
    settle=_settle,
    handled=words(
        "command freeze_vit freeze_aligner freeze_llm tuner_type train_type sft_type quant_method quant_bits "
        "quantization_bit bnb_4bit_quant_type bf16 fp16 torch_dtype bnb_4bit_use_double_quant bnb_4bit_compute_dtype "
        "attn_impl use_liger_kernel rlhf_type packing padding_free per_device_eval_batch_size "
        "gradient_checkpointing_kwargs optim_args optim_target_modules vera_rank vera_dropout"
    ),
    ignored=ignored_keys("ms_swift"),
)
