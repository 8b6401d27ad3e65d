"""The QLoRA chapter's flat dictionary, our own request document, and a model's config.json."""

from app.imports.effects import WHOLE
from app.imports.rules import Reading, Rule, Trainer, words
from planner.request.schema import Lora, Quantization, Request, Training


def _settle_chapter(reading: Reading) -> None:
    four, eight = reading.on("load_in_4bit"), reading.on("load_in_8bit")
    method = "qlora" if four or eight else "lora"
    reading.assume("method", method, "from load_in_4bit and load_in_8bit")
    if method == "lora":
        # Switches of a quantization that is off would only be refused.
        reading.document.pop("quantization", None)
    elif four:
        reading.assume("quantization.bnb_4bit_quant_type", "fp4", "BitsAndBytesConfig's default")
        reading.assume("quantization.bnb_4bit_use_double_quant", False, "BitsAndBytesConfig's default")
        reading.assume("quantization.bnb_4bit_compute_dtype", "float32", "BitsAndBytesConfig's default")


CHAPTER = Trainer(
    id="chapter",
    name="the chapter's dictionary",
    signature=words("load_in_4bit bnb_4bit_use_double_quant bnb_4bit_quant_type bnb_4bit_compute_dtype lora_r"),
    rules=(
        Rule("model_name", "model"),
        Rule("model_id", "model"),
        Rule("lora_r", "lora.r"),
        Rule("r", "lora.r"),
        *(Rule(name, f"quantization.{name}") for name in Quantization.model_fields),
        *(Rule(name, f"lora.{name}") for name in Lora.model_fields if name != "r"),
        *(Rule(name, f"training.{name}") for name in Training.model_fields),
    ),
    settle=_settle_chapter,
    harmless=words("bias task_type learning_rate num_epochs num_train_epochs output_dir seed warmup_steps"),
    unmodelled={"modules_to_save": WHOLE},
)


def _settle_request(reading: Reading) -> None:
    """A key that is none of the request's stays in the document, and the request refuses it by name."""
    for item in reading.not_planned:
        reading.document[item.key] = item.value
    reading.not_planned.clear()
    reading.ignored.clear()


REQUEST = Trainer(
    id="fitproof",
    name="a Fitproof request",
    signature=words("model gpu method quantization lora training stack"),
    rules=tuple(Rule(name, name) for name in Request.model_fields),
    settle=_settle_request,
)


def _settle_model_config(reading: Reading) -> None:
    reading.use("model_type", "model", dict(reading.config))
    reading.ignored.clear()
    reading.not_planned.clear()


MODEL_CONFIG = Trainer(
    id="model-config",
    name="a model's config.json",
    signature=words(
        "model_type architectures hidden_size num_hidden_layers num_attention_heads vocab_size n_embd n_layer"
    ),
    rules=(),
    settle=_settle_model_config,
)
