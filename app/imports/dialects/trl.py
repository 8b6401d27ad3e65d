"""TrainingArguments, SFTConfig and TRL's ModelConfig as JSON or YAML: transformers 5.23 and TRL 1.16.

Defaults from their dataclasses, which a test reads beside these: training_args.py, trl/trainer/base_config.py,
sft_config.py, model_config.py. What is built from them: trl/scripts/sft.py, trl/trainer/utils.py
(get_quantization_config: the compute dtype is `dtype`), sft_trainer.py (adapters of a quantized model in bfloat16).
"""

import re
from collections.abc import Mapping
from typing import Any

from app.imports.adapters.options import adapter_options
from app.imports.adapters.peft_methods import METHOD_RULES, read_peft_type
from app.imports.adapters.peft_targets import default_targets
from app.imports.attention import put_attention
from app.imports.dialects.trl_objectives import name_the_reference, read_objective
from app.imports.effects import PREFERENCES, VLLM, VLLM_SHARE, Effect, card_share
from app.imports.ignored_keys import ignored_keys
from app.imports.liger import put_transformers_kernels
from app.imports.low_rank import read_low_rank
from app.imports.numbers import as_number
from app.imports.precision import Dtypes, dtype_name, half_precision, put_stack
from app.imports.rules import DEFAULT_LORA, Reading, Rule, Trainer, listed, looked_up, words
from app.imports.sources.programs import name_the_program
from app.imports.towers import may_see
from app.imports.unsloth import put_unsloth
from planner.request.unsloth import UNSLOTH

_TRL_ONLY = words(
    "max_length max_seq_length packing dataset_text_field completion_only_loss assistant_only_loss "
    "loss_type padding_free use_peft use_bnb_nested_quant truncation_mode packing_strategy lora_task_type"
)
# TRL 1.16, trainer/sft_config.py: nll works through the output head in chunks, chunked_nll is its deprecated alias.
_LOSSES = {"nll": "chunked", "chunked_nll": "chunked", "dft": "full_logits"}
_DTYPES = ("dtype", "torch_dtype")
# Of `model_init_kwargs`: what is read, and what does not move memory.
_INIT_KEYS = {
    *_DTYPES, "attn_implementation", "low_cpu_mem_usage", "trust_remote_code", "revision", "token", "cache_dir",
    "local_files_only", "use_cache", "use_safetensors",
}  # fmt: skip
# What no module's name holds.
_PATTERN = re.compile(r"[\\*+?()|\[\]^$]")


def _named_targets(value: Any) -> Any:
    """A list of one is that one (ModelConfig.__post_init__): "all-linear", or a pattern."""
    if isinstance(value, str) and _PATTERN.search(value):
        return value
    names = listed(value)
    is_one_word = isinstance(names, list) and len(names) == 1 and isinstance(names[0], str)
    return names[0] if is_one_word and (names[0] == "all-linear" or _PATTERN.search(names[0])) else names


def _write_method(config: dict[str, Any], method: Any) -> None:
    """A plan's QLoRA has double quantization, so the file gets it, too."""
    config["use_peft"] = method != "full"
    if method == "qlora" or config.get("load_in_4bit"):
        config["load_in_4bit"] = method == "qlora"
    if method == "qlora":
        config["use_bnb_nested_quant"] = True
        config[next((name for name in _DTYPES if config.get(name)), "dtype")] = "bfloat16"
    if method != "full" and not config.get("lora_target_modules"):
        config["lora_target_modules"] = DEFAULT_LORA.target_modules


def _settle(reading: Reading) -> None:
    config = reading.config
    objective = read_objective(reading)
    by_name = objective != "sft" or str(config.get("command", "")).startswith("trl ")
    is_trl = by_name or bool(_TRL_ONLY & set(config))
    four, eight = reading.on("load_in_4bit"), reading.on("load_in_8bit")
    lora_keys = [key for key in config if key.startswith("lora_") and config[key] not in (None, "")]
    if config.get("use_peft") is False and (four or eight):
        reading.contradict("use_peft", "quantized weights cannot be trained without adapters; set it to true")
    elif is_trl and "use_peft" not in config and (lora_keys or four or eight):
        reading.contradict("use_peft", "missing; `trl sft` trains no adapter without it; planned as if it were true")
    elif config.get("use_peft") is False and lora_keys:
        reading.contradict(lora_keys[0], "has no effect: use_peft is false, so every weight is trained")
    if four and eight:
        reading.contradict("load_in_8bit", "load_in_4bit is true as well; keep one")
    has_lora = config.get("use_peft", bool(lora_keys)) is True
    method = "qlora" if four or eight else "lora" if has_lora else "full"
    reading.assume("method", method, "from load_in_4bit, load_in_8bit, use_peft and the lora_ keys")
    if four:
        reading.use("load_in_4bit", "quantization.load_in_4bit", True)
        reading.put("quantization.bnb_4bit_quant_type", config.get("bnb_4bit_quant_type", "nf4"))
        nested = config.get("use_bnb_nested_quant", config.get("bnb_4bit_use_double_quant", False))
        reading.put("quantization.bnb_4bit_use_double_quant", nested)
    elif eight:
        reading.use("load_in_8bit", "quantization.load_in_8bit", True)
    _precision(reading, is_trl)
    may_see(reading)
    if objective == "sft":
        name_the_program(reading)
        _loss(reading, is_trl)
        name_the_reference(reading)
    _step(reading, is_trl, objective)
    _model_init(reading)
    if method != "full":
        _adapters(reading)
    if reading.on("unsloth") or config.get("gradient_checkpointing") == UNSLOTH:
        key = "unsloth" if reading.on("unsloth") else "gradient_checkpointing"
        put_unsloth(reading, key, config.get("gradient_checkpointing"))


def _precision(reading: Reading, is_trl: bool) -> None:
    """bf16 is SFTConfig's default and not TrainingArguments'; without either the Trainer does not autocast."""
    config = reading.config
    brain = reading.on("bf16") or (is_trl and config.get("bf16") is None and not reading.on("fp16"))
    half = half_precision(reading, bf16=brain, fp16=reading.on("fp16"))
    dtype = _dtype(reading, is_trl, half)
    four = reading.on("load_in_4bit")
    if four:
        key = next((name for name in ("bnb_4bit_compute_dtype", *_DTYPES) if config.get(name)), "load_in_4bit")
        compute = config.get("bnb_4bit_compute_dtype") or dtype
        reading.use(key, "quantization.bnb_4bit_compute_dtype", compute)
    adapters = "bfloat16" if is_trl and (four or reading.on("load_in_8bit")) else "float32"
    if is_trl:
        reason = "keys that only TRL's SFTConfig and ModelConfig have"
        if said := _said_dtype(reading):
            reason += f", and dtype: {said}"
        elif dtype == "float32":
            reason = "TRL loads a model by its name in float32 unless dtype says otherwise"
    else:
        reason = "plain TrainingArguments" if half else "neither bf16 nor fp16: no autocast"
    prepared = reading.on("prepare_model_for_kbit_training") and (four or reading.on("load_in_8bit"))
    preset = "kbit" if prepared else "trl" if is_trl else "trainer"
    put_stack(reading, preset, Dtypes(dtype, half, adapters), reason)


def _dtype(reading: Reading, is_trl: bool, half: str | None) -> str:
    """What the model is loaded in: TRL's own default is float32, a script's usually the checkpoint's 16 bit."""
    config, said = reading.config, _said_dtype(reading)
    if said == "auto":
        if reading.on("load_in_4bit") and is_trl and not config.get("bnb_4bit_compute_dtype"):
            message = "TRL hands it to bitsandbytes as compute dtype, which knows no auto; write bfloat16"
            reading.contradict(next((name for name in _DTYPES if name in config), "model_init_kwargs"), message)
        return "bfloat16"
    if said is not None:
        return dtype_name(said)
    return "float32" if is_trl else half or "bfloat16"


def _said_dtype(reading: Reading) -> Any:
    config, inner = reading.config, reading.config.get("model_init_kwargs")
    places = [config, inner] if isinstance(inner, Mapping) else [config]
    return next((place[name] for place in places for name in _DTYPES if place.get(name)), None)


def _model_init(reading: Reading) -> None:
    """`model_init_kwargs`: the attention is read, and what else moves memory is left out."""
    inner = reading.config.get("model_init_kwargs")
    if not isinstance(inner, Mapping):
        if inner:
            reading.contradict("model_init_kwargs", "must be a mapping of what from_pretrained takes")
        return
    if inner.get("attn_implementation"):
        put_attention(reading, "model_init_kwargs", inner["attn_implementation"])
    more = [key for key, value in inner.items() if key not in _INIT_KEYS and value not in (None, False)]
    if more:
        why = f"loads the model its own way ({', '.join(more)[:80]}); planned without"
        reading.leave_out("model_init_kwargs", Effect(why, saves=True))


def _adapters(reading: Reading) -> None:
    kind = reading.config.get("peft_type", "LORA")
    reading.assume("lora.r", 16, "TRL ModelConfig's default")
    reading.assume("lora.lora_alpha", 32, "TRL ModelConfig's default")
    reading.assume("lora.lora_dropout", 0.05, "TRL ModelConfig's default")
    if reading.get("lora.target_modules") is None:
        further = reading.get("lora.target_parameters")
        targets = default_targets(reading.document.get("model", ""), further) if kind == "LORA" else None
        if targets is None:
            reading.contradict("lora_target_modules", "missing, and PEFT has no default for this model; name them")
        else:
            reading.assume("lora.target_modules", list(targets), "PEFT's own choice for this kind of model")
    read_peft_type(reading, "peft_type", kind)


def _step(reading: Reading, is_trl: bool, objective: str) -> None:
    config = reading.config
    for key in ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"):
        reading.use_reentrant(key)
    if "max_seq_length" in config and "max_length" in config and config["max_seq_length"] != config["max_length"]:
        reading.contradict("max_seq_length", "the old name of max_length, with another value; keep max_length")
    if reading.on("use_flash_attention_2"):
        reading.use("use_flash_attention_2", "training.attn_implementation", "flash_attention_2")
    if config.get("attn_implementation"):
        put_attention(reading, "attn_implementation", config["attn_implementation"])
    if config.get("gradient_checkpointing") == UNSLOTH:
        reading.put("training.gradient_checkpointing", True)
    reading.assume("training.per_device_train_batch_size", 8, "TrainingArguments' default")
    reading.assume("training.optim", "adamw_torch_fused", "TrainingArguments' default")
    read_low_rank(reading)
    reading.assume("training.gradient_checkpointing", is_trl, "SFTConfig checkpoints by default, TrainingArguments not")
    _beside_training(reading, objective)
    if is_trl:
        reading.assume("training.max_length", 1024, "SFTConfig's default")
        if not reading.on("packing") and not reading.on("padding_free"):
            reading.pads("packing")
        elif objective == "sft" and not _chops(reading):
            key = "packing" if reading.on("packing") else "padding_free"
            reading.use(key, "training.packing", True)


def _chops(reading: Reading) -> bool:
    """Whether packing joins all documents and cuts rows of max_length, which batches as sequences of one length."""
    return reading.config.get("packing_strategy") == "wrapped" and not reading.on("padding_free")


def _loss(reading: Reading, is_trl: bool) -> None:
    config = reading.config
    if reading.on("use_liger_kernel") and put_transformers_kernels(reading):
        reading.use("use_liger_kernel", "training.loss", "liger")
    elif loss := looked_up(_LOSSES, config.get("loss_type")):
        reading.use("loss_type", "training.loss", loss)
    elif config.get("loss_type"):
        reading.leave_out("loss_type", PREFERENCES)
    elif "max_seq_length" in config and "max_length" not in config:
        reading.assume("training.loss", "full_logits", "max_seq_length is from before TRL 0.20, which wrote all logits")
    elif is_trl and not any(item.why == PREFERENCES.why for item in reading.not_planned):
        reading.assume("training.loss", "chunked", "SFTConfig's default loss_type, nll, works in chunks")


def _beside_training(reading: Reading, objective: str) -> None:
    """Evaluation, and vLLM where it shares the process (GRPOConfig's own default)."""
    config = reading.config
    evaluates = config.get("eval_strategy", config.get("evaluation_strategy", "no")) not in ("no", False)
    key = "per_device_eval_batch_size" if "per_device_eval_batch_size" in config else "eval_strategy"
    batch = reading.get("training.per_device_train_batch_size")
    evaluated = config.get("per_device_eval_batch_size", 8 if evaluates else None)
    reading.evaluates(key, evaluated, batch, planned=objective == "sft")
    if objective != "grpo" and reading.on("use_vllm"):
        colocated = config.get("vllm_mode", "colocate") == "colocate" and not reading.on("vllm_enable_sleep_mode")
        share = config.get("vllm_gpu_memory_utilization", VLLM_SHARE)
        reading.leave_out("use_vllm", VLLM, least=card_share(share) if colocated else None)


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
        Rule("neftune_noise_alpha", "training.neftune_noise_alpha", as_number),
        Rule("activation_offloading", "training.activation_offloading"),
        Rule("max_grad_norm", "training.max_grad_norm"),
        Rule("lora_r", "lora.r"),
        Rule("lora_alpha", "lora.lora_alpha"),
        Rule("lora_dropout", "lora.lora_dropout"),
        Rule("lora_target_modules", "lora.target_modules", _named_targets, listed),
        Rule("lora_modules_to_save", "lora.modules_to_save", listed),
        *adapter_options(
            exclude_modules="exclude_modules", rank_pattern="rank_pattern", alpha_pattern="alpha_pattern",
            init_lora_weights="init_lora_weights", layers_to_transform="layers_to_transform",
            layers_pattern="layers_pattern", target_parameters="lora_target_parameters", bias="bias",
            trainable_token_indices="trainable_token_indices",  # noqa: S106  # tokens of a vocabulary
        ),
        Rule("modules_to_save", "lora.modules_to_save", listed),
        *METHOD_RULES,
        Rule("use_dora", "lora.use_dora"),
        Rule("use_rslora", "lora.use_rslora"),
    ),
    settle=_settle,
    handled=words(
        "command load_in_4bit load_in_8bit bnb_4bit_quant_type use_bnb_nested_quant bnb_4bit_use_double_quant bf16 "
        "fp16 dtype torch_dtype bnb_4bit_compute_dtype use_peft gradient_checkpointing_kwargs "
        "activation_checkpointing_kwargs attn_implementation use_flash_attention_2 use_liger_kernel loss_type "
        "model_init_kwargs use_vllm vllm_mode vllm_gpu_memory_utilization vllm_enable_sleep_mode "
        "per_device_eval_batch_size prepare_model_for_kbit_training packing padding_free packing_strategy "
        "liger_kernel_config optim_args optim_target_modules peft_type"
    ),
    ignored=ignored_keys("trl"),
    rewrites={"method": _write_method},
    edits=(
        Rule("attn_implementation", "training.attn_implementation"),
        Rule("use_liger_kernel", "training.loss", write=lambda loss: loss == "liger"),
        Rule("load_in_4bit", "quantization.load_in_4bit"),
        Rule("load_in_8bit", "quantization.load_in_8bit"),
        Rule("dtype", "quantization.bnb_4bit_compute_dtype"),
        Rule("torch_dtype", "quantization.bnb_4bit_compute_dtype"),
        Rule("use_bnb_nested_quant", "quantization.bnb_4bit_use_double_quant"),
        Rule("bnb_4bit_quant_type", "quantization.bnb_4bit_quant_type"),
    ),
)
