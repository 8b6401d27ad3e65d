"""Files that say a part of a run: the QLoRA chapter's flat dictionary, and an adapter's adapter_config.json."""

from app.imports.adapters.options import adapter_options
from app.imports.adapters.peft_methods import METHOD_RULES, read_peft_type
from app.imports.ignored_keys import ignored_keys
from app.imports.rules import Reading, Rule, Trainer, listed, words
from planner.request.lora import Lora
from planner.request.schema import Quantization, Training


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
    name="the dictionary of 412: QLoRA",
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
    ignored=ignored_keys("chapter"),
)


def _settle_adapter(reading: Reading) -> None:
    reading.use("peft_type", "method", "lora")
    read_peft_type(reading, "peft_type", reading.config.get("peft_type", "LORA"))
    why = "an adapter's file does not say how it was trained; planned"
    reading.assume("training.per_device_train_batch_size", 1, f"{why} with one sequence")
    reading.assume("training.max_length", 2048, f"{why} with 2,048 tokens")


ADAPTER = Trainer(
    id="adapter-config",
    name="an adapter's adapter_config.json",
    signature=words("peft_type base_model_name_or_path inference_mode fan_in_fan_out r lora_alpha target_modules"),
    rules=(
        Rule("base_model_name_or_path", "model"),
        Rule("r", "lora.r"),
        Rule("lora_alpha", "lora.lora_alpha"),
        Rule("lora_dropout", "lora.lora_dropout"),
        Rule("target_modules", "lora.target_modules"),
        Rule("use_dora", "lora.use_dora"),
        Rule("use_rslora", "lora.use_rslora"),
        Rule("modules_to_save", "lora.modules_to_save", listed),
        *adapter_options(
            exclude_modules="exclude_modules", rank_pattern="rank_pattern", alpha_pattern="alpha_pattern",
            init_lora_weights="init_lora_weights", fan_in_fan_out="fan_in_fan_out",
            layers_to_transform="layers_to_transform", layers_pattern="layers_pattern",
            target_parameters="target_parameters", bias="bias",
            trainable_token_indices="trainable_token_indices",  # noqa: S106  # tokens of a vocabulary
        ),
        Rule("ensure_weight_tying", "lora.ensure_weight_tying"),
        *METHOD_RULES,
    ),
    settle=_settle_adapter,
    handled=words("peft_type"),
    ignored=ignored_keys("adapter_config"),
)
