"""AutoTrain YAML.

Keys and defaults as read in huggingface/autotrain-advanced (b5c98fbe): src/autotrain/trainers/clm/params.py
(block_size -1, batch_size 2, quantization int4 where peft is on, target_modules all-linear). What is built from them:
src/autotrain/trainers/clm/utils.py (get_model: NF4 that computes in float16, prepare_model_for_kbit_training; without
quantization the dtype is left to transformers, which requirements.txt pins to 4.48: float32; configure_block_size: at
most 1024 tokens; configure_training_args: use_reentrant), train_clm_sft.py (packing).
"""

from app.imports.effects import PREFERENCES, Effect
from app.imports.ignored_keys import ignored_keys
from app.imports.precision import Dtypes, four_bits, put_stack
from app.imports.rules import Reading, Rule, Trainer, names_or_all, words
from planner.answer.not_planned import Pairs

_SFT = ("llm", "llm-sft", "llm-generic")


def _settle(reading: Reading) -> None:
    config = reading.config
    task = str(config.get("task", "llm-sft"))
    if not task.startswith("llm"):
        reading.leave_out(
            "task", Effect(f"{task} trains no decoder; planned as if it did", "as plain SFT of a decoder")
        )
    elif task not in _SFT:
        paired = task in ("llm-dpo", "llm-orpo", "llm-reward")
        reading.leave_out("task", PREFERENCES, least=Pairs() if paired else None)
    peft = reading.on("params.peft")
    quantized = peft and _quantization(reading)
    reading.use("params.peft" if peft else "task", "method", "qlora" if quantized else "lora" if peft else "full")
    half = {"bf16": "bfloat16", "fp16": "float16"}.get(str(config.get("params.mixed_precision")))
    loaded = "float16" if quantized else "float32"
    put_stack(reading, "kbit" if quantized else "trainer", Dtypes(loaded, half, "float32"), "from mixed_precision")
    if reading.on("params.disable_gradient_checkpointing"):
        reading.use("params.disable_gradient_checkpointing", "training.gradient_checkpointing", False)
    reading.assume("training.use_reentrant", bool(quantized), "on where the weights are quantized")
    if peft:
        reading.assume("lora.target_modules", "all-linear", "AutoTrain's default target_modules")
        reading.assume("lora.r", 16, "AutoTrain's default lora_r")
    else:
        reading.document.pop("lora", None)
    reading.assume("training.per_device_train_batch_size", 2, "AutoTrain's default batch_size")
    reading.assume("training.gradient_accumulation_steps", 4, "AutoTrain's default gradient_accumulation")
    reading.assume("training.optim", "adamw_torch", "AutoTrain's default optimizer")
    if config.get("params.block_size") == -1:
        reading.put("training.max_length", None)
    reading.assume("training.max_length", 1024, "AutoTrain's block_size of -1 means at most 1,024 tokens")


def _quantization(reading: Reading) -> bool:
    """Whether the base is quantized: int4, unless the file says otherwise."""
    bits = reading.config.get("params.quantization", "int4")
    if bits in (None, "none"):
        return False
    if bits == "int8":
        reading.use("params.quantization", "quantization", {"load_in_8bit": True})
    elif bits == "int4":
        four_bits(reading, "params.quantization", compute="float16")
    else:
        reading.leave_out("params.quantization", Effect(f"{bits} is not planned", "without quantization", saves=True))
        return False
    return True


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
    settle=_settle,
    handled=words(
        "task params.peft params.quantization params.mixed_precision params.disable_gradient_checkpointing"
    ),
    ignored=ignored_keys("autotrain"),
)  # fmt: skip
