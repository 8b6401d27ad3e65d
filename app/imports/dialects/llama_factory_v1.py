"""LLaMA-Factory's second file format, as read in hiyouga/LLaMA-Factory src/llamafactory/v1/config and examples/v1."""

from app.imports.adapters.linear_targets import linear_targets
from app.imports.effects import PARTIAL, Effect
from app.imports.ignored_keys import ignored_keys
from app.imports.precision import four_bits
from app.imports.rules import Reading, Rule, Trainer, listed, words
from app.imports.towers import may_see


def _settle(reading: Reading) -> None:
    config = reading.config
    kind, bits = config.get("peft_config.name"), config.get("quant_config.quantization_bit")
    quantized = kind == "lora" and bits in (4, 8)
    reading.use("peft_config.name", "method", "qlora" if quantized else "lora" if kind == "lora" else "full")
    if kind == "freeze":
        reading.leave_out("peft_config.name", PARTIAL)
    elif kind not in (None, "lora"):
        reading.leave_out("peft_config.name", Effect(f"{kind} is not planned", "as full fine-tuning", saves=True))
    if bits not in (None, 4, 8):
        reading.contradict("quant_config.quantization_bit", "must be 4 or 8")
    if quantized and bits == 4:
        four_bits(reading, "quant_config.quantization_bit", nested=True)
    elif quantized:
        reading.use("quant_config.quantization_bit", "quantization", {"load_in_8bit": True})
    if reading.get("lora.target_modules") == ["all"]:
        reading.put("lora.target_modules", linear_targets(reading.get("model")))
    elif kind == "lora":
        reading.assume("lora.target_modules", linear_targets(reading.get("model")), "target_modules defaults to all")
    if kind != "lora":
        reading.document.pop("lora", None)
    if kind == "lora":
        reading.assume("lora.r", 8, "LLaMA-Factory's default rank")
    reading.assume("training.max_length", 2048, "LLaMA-Factory's default cutoff_len")
    reading.assume("training.per_device_train_batch_size", 1, "the second format's default micro_batch_size")
    reading.assume("training.optim", "adamw_torch", "the second format's default optimizer")
    reading.pads("a packed trainer")
    may_see(reading)


LLAMA_FACTORY_V1 = Trainer(
    id="llama-factory-v1",
    name="LLaMA-Factory (v1 format)",
    sections=words("peft_config quant_config dist_config kernel_config optim_config lr_scheduler_config"),
    signature=words(
        "model_class cutoff_len micro_batch_size train_dataset sample_backend peft_config.name kernel_config.name "
        "dist_config.name quant_config.name init_config global_batch_size"
    ),
    rules=(
        Rule("model", "model"),
        Rule("cutoff_len", "training.max_length"),
        Rule("micro_batch_size", "training.per_device_train_batch_size"),
        Rule("enable_activation_checkpointing", "training.gradient_checkpointing"),
        Rule("max_grad_norm", "training.max_grad_norm"),
        Rule("peft_config.r", "lora.r"),
        Rule("peft_config.lora_alpha", "lora.lora_alpha"),
        Rule("peft_config.lora_dropout", "lora.lora_dropout"),
        Rule("peft_config.modules_to_save", "lora.modules_to_save", listed),
        Rule("peft_config.target_modules", "lora.target_modules", listed),
    ),
    settle=_settle,
    handled=words("peft_config.name quant_config.quantization_bit quant_config.name bf16"),
    ignored=ignored_keys("llama_factory_v1"),
)
