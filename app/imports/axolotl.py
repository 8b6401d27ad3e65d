"""Axolotl YAML.

Keys and defaults as read in https://github.com/axolotl-ai-cloud/axolotl, src/axolotl/utils/schemas: `training.py`
(micro_batch_size 1, gradient_accumulation_steps 1, optimizer adamw_torch_fused), `config.py` (sequence_len 512,
gradient_checkpointing false, bf16 auto, LoRA kernels on by themselves) and `peft.py` (no default rank, lora_dropout 0,
what `adapter` goes with). What is built from them: src/axolotl/utils/config/__init__.py (torch_dtype),
loaders/model.py (quantization; prepare_model_for_kbit_training, then norms and embeddings back to torch_dtype),
loaders/adapter.py (targets), core/builders/base.py (use_reentrant false).
"""

from collections.abc import Callable
from typing import Any

from app.imports.leftout import AXOLOTL_HARMLESS, AXOLOTL_UNMODELLED
from app.imports.precision import Dtypes, put_stack
from app.imports.rules import DEFAULT_LORA, Ignored, Reading, Rule, Trainer, listed, looked_up, words

_ATTENTION = {"flash_attention": "flash_attention_2", "sdp_attention": "sdpa", "eager_attention": "eager"}
_OPTIMIZERS = {"adamw_torch_8bit": "adamw_8bit", "ao_adamw_8bit": "adamw_8bit", "adamw_hf": "adamw_torch"}
_HALVES = ("bf16", "fp16", "bfloat16", "float16")
_KERNELS = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel")


def _optimizer(value: Any) -> Any:
    return looked_up(_OPTIMIZERS, value) or value


def _checkpointing(value: Any) -> Any:
    # "unsloth", "offload" and "offload_disk" checkpoint too, and move the checkpoints elsewhere; settle() says so.
    return True if isinstance(value, str) else value


def _write_method(config: dict[str, Any], method: Any) -> None:
    """`adapter` and what it takes; a file that had none gets the plan's own rank and targets."""
    config["adapter"] = None if method == "full" else method
    if method == "qlora" or config.get("load_in_4bit"):
        config["load_in_4bit"] = method == "qlora"
    if method != "full":
        config["lora_r"] = config.get("lora_r") or DEFAULT_LORA.r
        if not config.get("lora_target_modules"):
            config["lora_target_linear"] = True


def _write_four_bits(config: dict[str, Any], four: Any) -> None:
    config["load_in_4bit"] = four
    if four:
        config["adapter"] = "qlora"


def _write_bnb(name: str, default: Any) -> Callable[[dict[str, Any], Any], None]:
    """What Axolotl's own bnb_config has already is not written."""

    def write(config: dict[str, Any], value: Any) -> None:
        given = config.get("bnb_config_kwargs")
        kwargs = dict(given) if isinstance(given, dict) else {}
        if kwargs.get(name, default) != value:
            config["bnb_config_kwargs"] = kwargs | {name: value}

    return write


def _write_accumulation(config: dict[str, Any], steps: Any) -> None:
    """Axolotl takes either this or the whole batch_size."""
    config["gradient_accumulation_steps"] = steps
    if config.get("batch_size"):
        config["batch_size"] = None


def _settle(reading: Reading) -> None:
    config = reading.config
    dtype, autocast = _dtype(reading)
    _method(reading, dtype)
    _targets(reading)
    _attention(reading)
    _stack(reading, dtype, autocast)
    _batches(reading)
    if isinstance(config.get("gradient_checkpointing"), str):
        reading.ignored.append(Ignored("gradient_checkpointing", "planned as plain checkpointing, on the card", True))
    reading.use_reentrant("gradient_checkpointing_kwargs")
    if reading.on("liger_fused_linear_cross_entropy"):
        reading.use("liger_fused_linear_cross_entropy", "training.loss", "liger")
    if "cut_cross_entropy" in str(config.get("plugins")) and config.get("cut_cross_entropy") is None:
        reading.ignored.append(Ignored("plugins", AXOLOTL.unmodelled["cut_cross_entropy"], True))
    reading.assume("training.per_device_train_batch_size", 1, "Axolotl's default micro_batch_size")
    reading.assume("training.gradient_checkpointing", False, "Axolotl checkpoints only when told to")
    reading.assume("training.optim", "adamw_torch_fused", "Axolotl's default optimizer")
    reading.assume("training.max_length", 512, "Axolotl's default sequence_len")


def _dtype(reading: Reading) -> tuple[str, str | None]:
    """`torch_dtype` and what Trainer autocasts to, as normalize_config and the builder find them; bf16 wins."""
    config = reading.config
    bf16 = config.get("bf16", "auto")
    if reading.on("fp16") and bf16 is True:
        reading.contradict("fp16", "bf16: true as well, and Axolotl then ignores fp16; keep one")
    if bf16 or reading.on("bfloat16"):
        return "bfloat16", None if bf16 == "full" else "bfloat16"
    if reading.on("fp16"):
        return "float16", "float16"
    half = reading.on("float16") or reading.on("load_in_8bit")
    return "float16" if half else "float32", None


def _method(reading: Reading, dtype: str) -> None:
    config = reading.config
    four, eight = reading.on("load_in_4bit"), reading.on("load_in_8bit")
    adapter = config.get("adapter")
    if four and eight:
        reading.contradict("load_in_8bit", "load_in_4bit is true as well; keep one")
    if adapter == "qlora" and not four:
        reading.contradict("adapter", "qlora needs load_in_4bit: true, and Axolotl refuses it otherwise")
    if adapter not in (None, "", "lora", "qlora"):
        reading.contradict("adapter", f"{adapter} is not planned; lora and qlora are")
    if not adapter and (four or eight):
        reading.contradict("adapter", "missing; quantized weights cannot be trained without one")
    if adapter == "lora" and four and not eight:
        # loaders/model.py makes a quantization config for qlora with 4 bits and for lora with 8, and for nothing else.
        reading.contradict("load_in_4bit", "has no effect with adapter: lora, nothing is quantized; say adapter: qlora")
    quantized = adapter == "qlora" or eight or (four and adapter != "lora")
    reading.use("adapter", "method", "qlora" if quantized else "lora" if adapter else "full")
    if not quantized:
        return
    reading.use("load_in_8bit" if eight and not four else "load_in_4bit", "quantization", {})
    if eight and not four:
        reading.put("quantization.load_in_8bit", True)
        return
    # Axolotl's own bnb_config, and what the file changes in it.
    given = config.get("bnb_config_kwargs")
    kwargs = given if isinstance(given, dict) else {}
    reading.put("quantization.load_in_4bit", True)
    reading.put("quantization.bnb_4bit_quant_type", kwargs.get("bnb_4bit_quant_type", "nf4"))
    reading.put("quantization.bnb_4bit_use_double_quant", kwargs.get("bnb_4bit_use_double_quant", True))
    said = kwargs.get("bnb_4bit_compute_dtype", dtype)
    key = next((name for name in ("bnb_config_kwargs", *_HALVES) if config.get(name)), None)
    if key:
        reading.use(key, "quantization.bnb_4bit_compute_dtype", said)
    reading.assume("quantization.bnb_4bit_compute_dtype", said, "Axolotl's default is bf16: auto")


def _targets(reading: Reading) -> None:
    config = reading.config
    if reading.document.get("method") == "full":
        return
    if reading.on("lora_target_linear"):
        # A list beside it is joined to it (loaders/adapter.py), and a linear layer is in it already.
        reading.use("lora_target_linear", "lora.target_modules", "all-linear")
        if config.get("lora_target_modules"):
            named = "joined to lora_target_linear: true, which has every linear layer already"
            reading.ignored.append(Ignored("lora_target_modules", named))
    elif not config.get("lora_target_modules"):
        reading.contradict("lora_target_modules", "missing; name the modules, or set lora_target_linear: true")
    if not config.get("lora_r"):
        reading.contradict("lora_r", "missing; Axolotl has no default rank")
    if not config.get("lora_dropout") and all(config.get(kernel) is None for kernel in _KERNELS):
        kernels = "Axolotl turns its fused LoRA kernels on where there is no dropout; planned without, which needs more"
        reading.ignored.append(Ignored("lora_dropout", kernels, True))


def _attention(reading: Reading) -> None:
    on = [key for key in _ATTENTION if reading.on(key)]
    for key in on[1:]:
        reading.contradict(key, f"{on[0]}: true as well; keep one")
    if on and not reading.config.get("attn_implementation"):
        reading.use(on[0], "training.attn_implementation", _ATTENTION[on[0]])


def _stack(reading: Reading, dtype: str, autocast: str | None) -> None:
    config = reading.config
    adapters = dtype if config.get("peft_autocast_adapter_dtype") is False else "float32"
    model = dtype
    if config.get("adapter") == "lora" and reading.document["method"] == "lora" and reading.on("load_in_4bit"):
        # prepare_model_for_kbit_training runs all the same, and turns every weight to float32.
        model = "float32"
    if reading.document["method"] == "full" and not reading.on("flash_attention"):
        reason = "off, and norms and embeddings then stay in float32; planned in 16 bit"
        reading.ignored.append(Ignored("flash_attention", reason, True))
    said = next((f"{key} in the file" for key in _HALVES if config.get(key)), "")
    reason = said or ("Axolotl's default is bf16: auto" if autocast else "neither bf16 nor fp16: no autocast")
    put_stack(reading, "trainer", Dtypes(model, autocast, adapters), reason)


def _batches(reading: Reading) -> None:
    config = reading.config
    total, micro = config.get("batch_size"), config.get("micro_batch_size") or 1
    if total and config.get("gradient_accumulation_steps"):
        reading.contradict("batch_size", "gradient_accumulation_steps as well; keep one")
    elif isinstance(total, int) and isinstance(micro, int) and micro > 0:
        reading.use("batch_size", "training.gradient_accumulation_steps", max(1, total // micro))
    if not config.get("sample_packing") and not config.get("batch_flattening"):
        reading.pads("sample_packing")


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
        "eager_attention bf16 fp16 bfloat16 float16 gradient_checkpointing_kwargs liger_fused_linear_cross_entropy "
        "sample_packing pad_to_sequence_len batch_size batch_flattening peft_autocast_adapter_dtype"
    ),
    harmless=AXOLOTL_HARMLESS,
    unmodelled=AXOLOTL_UNMODELLED,
    rewrites={
        "method": _write_method,
        "training.gradient_accumulation_steps": _write_accumulation,
        "quantization.load_in_4bit": _write_four_bits,
        "quantization.bnb_4bit_quant_type": _write_bnb("bnb_4bit_quant_type", "nf4"),
        "quantization.bnb_4bit_use_double_quant": _write_bnb("bnb_4bit_use_double_quant", True),
        "quantization.bnb_4bit_compute_dtype": _write_bnb("bnb_4bit_compute_dtype", "bfloat16"),
    },
    edits=(
        Rule("load_in_8bit", "quantization.load_in_8bit"),
        Rule("liger_fused_linear_cross_entropy", "training.loss", write=lambda loss: loss == "liger"),
        Rule("attn_implementation", "training.attn_implementation"),
    ),
)
