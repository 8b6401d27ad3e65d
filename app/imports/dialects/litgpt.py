"""LitGPT YAML: a decoder of its own, planned as transformers and peft run the same model.

Keys and defaults as read in Lightning-AI/litgpt (26857050): litgpt/finetune/lora.py (rank 8 on query and value,
micro_batch_size 1, global_batch_size 16, AdamW), litgpt/finetune/full.py, litgpt/args.py, and litgpt/utils.py
(get_default_supported_precision: bf16-mixed). Quantization takes a precision that is not mixed.
"""

from app.imports.adapters.linear_targets import named_by_the_model
from app.imports.effects import ONE_CARD, OWN_DECODER, Effect
from app.imports.ignored_keys import ignored_keys
from app.imports.optimizer_classes import optimizer_name
from app.imports.precision import Dtypes, four_bits, put_stack
from app.imports.rules import Reading, Rule, Trainer, words

_ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "projection": "o_proj"}
_ON_BY_DEFAULT = {"lora_query", "lora_value"}


def _settle(reading: Reading) -> None:
    config = reading.config
    if folder := config.get("checkpoint_dir"):
        reading.use("checkpoint_dir", "model", "/".join(str(folder).rstrip("/").split("/")[-2:]))
    reading.leave_out("checkpoint_dir", OWN_DECODER)
    command = str(config.get("command", ""))
    if "adapter" in command:
        reading.leave_out("command", Effect("LLaMA-Adapter is not planned; planned as LoRA", "as LoRA", saves=True))
    has_lora = any(key.startswith("lora_") for key in config) or (bool(command) and not command.endswith("_full"))
    said = str(config.get("quantize"))
    quantized = has_lora and said.startswith("bnb.")
    method = "qlora" if quantized else "lora" if has_lora else "full"
    reading.use("quantize" if quantized else "lora_r" if has_lora else "precision", "method", method)
    if quantized and "int8" in said:
        reading.use("quantize", "quantization", {"load_in_8bit": True})
    elif quantized:
        four_bits(reading, "quantize", kind="fp4" if "fp4" in said else "nf4", nested=said.endswith("-dq"))
    _precision(reading)
    if has_lora:
        _adapters(reading)
    micro, whole = config.get("train.micro_batch_size", 1), config.get("train.global_batch_size", 16)
    if isinstance(micro, int) and isinstance(whole, int) and micro > 0:
        reading.use("train.global_batch_size", "training.gradient_accumulation_steps", max(1, whole // micro))
    reading.assume("training.per_device_train_batch_size", 1, "LitGPT's default micro_batch_size")
    reading.assume("training.gradient_checkpointing", False, "LitGPT checkpoints on several cards alone")
    optimizer = config.get("optimizer", "AdamW")
    name = optimizer.get("class_path", "AdamW") if isinstance(optimizer, dict) else optimizer
    reading.use("optimizer", "training.optim", optimizer_name(name))
    if config.get("devices", 1) not in (1, "auto"):
        reading.leave_out("devices", ONE_CARD)
    if not config.get("train.max_seq_length"):
        why = "no max_seq_length: as long as the data has it; planned with 2,048 tokens"
        reading.leave_out("train.max_seq_length", Effect(why, "with 2,048 tokens"))
    reading.pads("a packed dataset")


def _precision(reading: Reading) -> None:
    said = str(reading.config.get("precision") or "bf16-mixed")
    dtype = "float16" if said.startswith("16") else "bfloat16" if said.startswith("bf16") else "float32"
    mixed = said.endswith("-mixed")
    kept = "float32" if mixed else dtype
    reason = "from precision" if reading.config.get("precision") else "LitGPT's default precision: bf16-mixed"
    put_stack(reading, "loop", Dtypes(kept, dtype if mixed else None, kept), reason)


def _adapters(reading: Reading) -> None:
    def on(key: str) -> bool:
        return reading.config.get(key, key in _ON_BY_DEFAULT) is True

    names = [module for part, module in _ATTENTION.items() if on(f"lora_{part}")]
    names += ["gate_proj", "up_proj", "down_proj"] if on("lora_mlp") else []
    names += ["lm_head"] if on("lora_head") else []
    named = named_by_the_model(reading.get("model"), names or ["q_proj", "v_proj"])
    reading.use("lora_query", "lora.target_modules", named)
    reading.assume("lora.r", 8, "LitGPT's default lora_r")


LITGPT = Trainer(
    id="litgpt",
    name="LitGPT",
    sections=words("train eval log logger_kwargs"),
    signature=words(
        "checkpoint_dir out_dir precision quantize lora_query lora_key lora_value lora_projection lora_mlp lora_head "
        "train.micro_batch_size train.global_batch_size train.max_seq_length eval.interval devices num_nodes"
    ),
    rules=(
        Rule("train.micro_batch_size", "training.per_device_train_batch_size"),
        Rule("train.max_seq_length", "training.max_length"),
        Rule("lora_r", "lora.r"),
        Rule("lora_alpha", "lora.lora_alpha"),
        Rule("lora_dropout", "lora.lora_dropout"),
        Rule("train.max_norm", "training.max_grad_norm"),
    ),
    settle=_settle,
    handled=words(
        "command checkpoint_dir precision quantize devices lora_query lora_key lora_value lora_projection lora_mlp "
        "lora_head train.global_batch_size optimizer"
    ),
    ignored=ignored_keys("litgpt"),
)
