"""LLaMA-Factory YAML.

Keys and defaults as read in https://github.com/hiyouga/LLaMA-Factory, src/llamafactory/hparams: `model_args.py`
(quantization_type nf4, double_quantization true, use_reentrant_gc true, flash_attn auto), `finetuning_args.py`
(lora_rank 8, lora_alpha twice the rank, lora_dropout 0, lora_target all, finetuning_type lora) and `data_args.py`
(cutoff_len 2048). What is built from them: hparams/parser.py (compute dtype, what quantization goes with),
model/patcher.py (patch_config: without bf16 or fp16 the checkpoint's dtype), model/adapter.py (what trains is turned to
float32, all weights of full tuning too, unless pure_bf16).
"""

from typing import Any

from app.imports.adapters.linear_targets import linear_targets
from app.imports.adapters.peft_methods import METHOD_RULES, read_peft_type
from app.imports.attention import put_attention
from app.imports.effects import PARTIAL, PREFERENCES, SFT, TOWERS, Effect
from app.imports.ignored_keys import ignored_keys
from app.imports.low_rank import read_low_rank
from app.imports.numbers import as_number
from app.imports.precision import Dtypes, half_precision, put_stack
from app.imports.rules import DEFAULT_LORA, Reading, Rule, Trainer, listed, negated, words
from app.imports.sources.programs import name_the_program
from app.imports.towers import may_see
from planner.answer.not_planned import FrozenCopy, Pairs
from planner.tensors.modules import ALL_LINEAR, LINEAR_NAMES

# src/train.py, its older name, and what llamafactory-cli starts on several cards.
_OWN_SCRIPTS = frozenset({"train", "train_bash", "launcher", "cli"})
_ATTENTION_BACK = {"sdpa": "sdpa", "flash_attention_2": "fa2", "eager": "disabled"}

# LLaMA-Factory's data/collator.py, SFTDataCollatorWith4DAttentionMask: FlashAttention is told of the borders.
_MASKED = Effect(
    "keeps documents apart by a mask of length x length for each sequence, and another kernel for it, unless "
    "flash_attn is fa2; not in the plan",
    "without that mask",
)


def _targets_back(value: Any) -> Any:
    return "all" if value in {ALL_LINEAR, LINEAR_NAMES} else ",".join(listed(value))


def _write_method(config: dict[str, Any], method: Any) -> None:
    """A file that trained every weight gets the plan's own rank."""
    if config.get("finetuning_type") == "full" and method != "full":
        config["lora_rank"] = config.get("lora_rank") or DEFAULT_LORA.r
        config["lora_alpha"] = config.get("lora_alpha") or int(DEFAULT_LORA.lora_alpha)
    config["finetuning_type"] = "full" if method == "full" else "lora"
    if method == "qlora" or config.get("quantization_bit"):
        config["quantization_bit"] = 4 if method == "qlora" else None


def _settle(reading: Reading) -> None:
    config = reading.config
    kind = config.get("finetuning_type", "lora")
    bits = config.get("quantization_bit")
    if kind == "freeze":
        reading.leave_out("finetuning_type", PARTIAL)
        kind = "full"
    if kind == "full" and bits:
        reading.contradict("quantization_bit", "LLaMA-Factory quantizes only for lora; drop it or train lora")
    quantized = bits is not None and kind != "full"
    reading.use("finetuning_type", "method", "full" if kind == "full" else "qlora" if quantized else "lora")
    if quantized:
        _quantization(reading)
    _stack(reading)
    if config.get("flash_attn"):
        put_attention(reading, "flash_attn", config["flash_attn"])
    if reading.on("enable_liger_kernel"):
        reading.use("enable_liger_kernel", "training.loss", "liger")
    _targets(reading, kind)
    if kind != "full":
        read_peft_type(reading, "finetuning_type", kind)
    if reading.on("pissa_init") and kind == "lora":
        rounds = config.get("pissa_iter", 16)
        reading.use("pissa_init", "lora.init_lora_weights", "pissa" if rounds == -1 else f"pissa_niter_{rounds}")
    _stage(reading, kind)
    if reading.on("gradient_checkpointing") and reading.on("disable_gradient_checkpointing"):
        reading.contradict("gradient_checkpointing", "disable_gradient_checkpointing: true as well; keep one")
    if isinstance(reading.get("lora.r"), int):
        reading.assume("lora.lora_alpha", 2 * reading.get("lora.r"), "lora_alpha defaults to twice the rank")
    if reading.get("lora.peft_type") != "OFT":
        reading.assume("lora.r", 8, "LLaMA-Factory's default lora_rank")
    reading.assume("training.max_length", 2048, "LLaMA-Factory's default cutoff_len")
    reading.assume("training.gradient_checkpointing", True, "on unless disable_gradient_checkpointing")
    reading.assume("training.use_reentrant", True, "use_reentrant_gc defaults to true")
    reading.assume("training.per_device_train_batch_size", 8, "TrainingArguments' default")
    if reading.on("use_muon"):
        reading.use("use_muon", "training.optim", "muon")
    read_low_rank(reading)
    reading.assume("training.optim", "adamw_torch_fused", "TrainingArguments' default since transformers 4.57")
    batch = reading.get("training.per_device_train_batch_size")
    evaluates = config.get("eval_strategy", config.get("evaluation_strategy", "no")) not in ("no", False)
    key = "per_device_eval_batch_size" if "per_device_eval_batch_size" in config else "eval_strategy"
    evaluated = config.get("per_device_eval_batch_size", 8 if evaluates else None)
    reading.evaluates(key, evaluated, batch, planned=config.get("stage", "sft") in ("sft", "pt"))
    _towers(reading)
    name_the_program(reading, known=_OWN_SCRIPTS)
    may_see(reading)
    _packing(reading)


def _packing(reading: Reading) -> None:
    neat = reading.on("neat_packing")
    if neat and reading.get("training.attn_implementation") != "flash_attention_2":
        reading.leave_out("neat_packing", _MASKED)
    packs = reading.on("packing") if "packing" in reading.config else reading.config.get("stage") == "pt"
    if not neat and not packs:
        reading.pads("packing")


def _targets(reading: Reading, kind: str) -> None:
    """`all`, the default: every linear layer by its name."""
    everything = linear_targets(reading.config.get("model_name_or_path"))
    if reading.get("lora.target_modules") == ["all"]:
        reading.put("lora.target_modules", everything)
    elif kind != "full":
        reading.assume("lora.target_modules", everything, "lora_target defaults to all")


def _stage(reading: Reading, kind: str) -> None:
    """What is no supervised training. With LoRA the reference is the model itself without its adapters."""
    stage = reading.config.get("stage", "sft")
    if stage in ("sft", "pt"):
        return
    losses_without = reading.config.get("pref_loss", "sigmoid") in ("orpo", "simpo")
    has_reference = stage in ("dpo", "kto", "ppo") and not losses_without
    second = f", without {str(stage).upper()}'s reference model" if has_reference else ""
    copies = has_reference and kind == "full" and not reading.config.get("ref_model")
    alone = FrozenCopy() if copies else None
    least = Pairs(reference=copies) if stage in ("dpo", "rm") else alone
    reading.leave_out("stage", Effect(PREFERENCES.why, f"{SFT}{second}"), least=least)


def _towers(reading: Reading) -> None:
    """By default the tower and the projector are frozen, and the language model is not."""
    for key in ("freeze_vision_tower", "freeze_multi_modal_projector"):
        if key in reading.config and not reading.on(key):
            reading.leave_out(key, TOWERS)
    if reading.on("freeze_language_model"):
        reading.leave_out("freeze_language_model", PARTIAL)


def _quantization(reading: Reading) -> None:
    config = reading.config
    bits = config["quantization_bit"]
    if reading.on("resize_vocab"):
        reading.contradict("resize_vocab", "LLaMA-Factory cannot resize the vocabulary of a quantized model; drop one")
    method = config.get("quantization_method", "bnb")
    if method == "hqq":
        if bits != 4:
            why = f"hqq with {bits} bits has no formula; planned with 4"
            reading.leave_out("quantization_bit", Effect(why, "with 4 bits", saves=True))
        reading.use("quantization_method", "quantization", {"quant_method": "hqq"})
        return
    if method not in ("bnb", "bitsandbytes"):
        kind = "8 bits" if method == "eetq" else f"{bits} bits"
        why = f"no formula for {method}'s layers; planned as bitsandbytes with {kind}"
        reading.leave_out("quantization_method", Effect(why, "with bitsandbytes", saves=True))
        bits = 8 if method == "eetq" else bits
    if bits not in (4, 8):
        why = f"bitsandbytes has 4 and 8 bits, and no {bits}; planned with 4"
        reading.leave_out("quantization_bit", Effect(why, "with 4 bits", saves=True))
        bits = 4
    if bits == 8:
        reading.use("quantization_bit", "quantization", {"load_in_8bit": True})
        return
    reading.use("quantization_bit", "quantization", {"load_in_4bit": True})
    reading.put("quantization.bnb_4bit_quant_type", config.get("quantization_type", "nf4"))
    reading.put("quantization.bnb_4bit_use_double_quant", config.get("double_quantization", True))


def _stack(reading: Reading) -> None:
    """Compute dtype, autocast and the dtype of what trains. float32 adapters need no autocast to be trained."""
    autocast = half_precision(reading, bf16=reading.on("bf16"), fp16=reading.on("fp16"))
    pure = reading.on("pure_bf16")
    compute = "bfloat16" if pure or autocast is None else autocast
    if reading.get("quantization.load_in_4bit"):
        key = "fp16" if autocast == "float16" and not pure else "pure_bf16" if pure else "bf16"
        if autocast or pure:
            reading.use(key, "quantization.bnb_4bit_compute_dtype", compute)
        reason = "neither bf16 nor fp16: LLaMA-Factory computes in the checkpoint's dtype"
        reading.assume("quantization.bnb_4bit_compute_dtype", compute, reason)
    trained = compute if pure else "float32"
    model = trained if reading.document["method"] == "full" else compute
    if pure:
        reason = "pure_bf16 trains in bfloat16"
    else:
        reason = f"{autocast} autocast" if autocast else "neither bf16 nor fp16: no autocast"
        reason += ", and what trains is kept in float32"
    put_stack(reading, "trainer", Dtypes(model, autocast, trained), reason)
    if reading.get("lora.modules_to_save") and not pure:
        reason = "LLaMA-Factory turns all that is trained to float32 (model/adapter.py)"
        reading.assume("lora.modules_to_save_dtype", "float32", reason)


LLAMA_FACTORY = Trainer(
    id="llama-factory",
    name="LLaMA-Factory",
    signature=words(
        "finetuning_type cutoff_len lora_rank lora_target stage template quantization_bit dataset_dir flash_attn"
    ),
    rules=(
        Rule("neftune_noise_alpha", "training.neftune_noise_alpha", as_number),
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
        Rule("lora_target", "lora.target_modules", listed, _targets_back),
        Rule("additional_target", "lora.modules_to_save", listed, ",".join),
        Rule("use_dora", "lora.use_dora"),
        Rule("use_rslora", "lora.use_rslora"),
        *(rule for rule in METHOD_RULES if rule.key == "oft_block_size"),
        Rule("oft_target", "lora.target_modules", listed, _targets_back),
    ),
    settle=_settle,
    handled=words(
        "command freeze_vision_tower freeze_multi_modal_projector freeze_language_model finetuning_type "
        "quantization_bit quantization_method quantization_type double_quantization flash_attn enable_liger_kernel "
        "per_device_eval_batch_size bf16 fp16 pure_bf16 stage packing neat_packing gradient_checkpointing "
        "pissa_init pissa_iter optim_args optim_target_modules use_muon"
    ),
    ignored=ignored_keys("llama_factory"),
    rewrites={
        "method": _write_method,
        "quantization.load_in_4bit": lambda config, four: config.update(quantization_bit=4 if four else None),
        "quantization.load_in_8bit": lambda config, eight: config.update({"quantization_bit": 8} if eight else {}),
        "quantization.bnb_4bit_compute_dtype": lambda config, dtype: config.update(
            {"bf16": dtype == "bfloat16", "fp16": dtype == "float16"} if dtype != "float32" else {}
        ),
    },
    edits=(
        Rule("enable_liger_kernel", "training.loss", write=lambda loss: loss == "liger"),
        Rule("flash_attn", "training.attn_implementation", write=lambda kind: _ATTENTION_BACK.get(kind, "auto")),
        Rule("double_quantization", "quantization.bnb_4bit_use_double_quant"),
        Rule("quantization_type", "quantization.bnb_4bit_quant_type"),
    ),
)
