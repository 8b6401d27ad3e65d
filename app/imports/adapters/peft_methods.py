"""PEFT's methods beside LoRA in a trainer's file: which one, and its options by PEFT's names."""

from typing import Any

from app.imports.effects import Effect
from app.imports.rules import Ignored, Reading, Rule, listed
from planner.request.peft_types import METHODS

# PEFT's configurations as a script calls them, with the rank that each has by itself.
CONFIGS = {
    "LoraConfig": ("LORA", 8), "VeraConfig": ("VERA", 256), "IA3Config": ("IA3", None), "OFTConfig": ("OFT", None),
    "AdaLoraConfig": ("ADALORA", 12), "BOFTConfig": ("BOFT", None), "LoHaConfig": ("LOHA", 8),
    "LoKrConfig": ("LOKR", 8), "FourierFTConfig": ("FOURIERFT", None), "LNTuningConfig": ("LN_TUNING", None),
    "PromptTuningConfig": ("PROMPT_TUNING", None), "PromptEncoderConfig": ("P_TUNING", None),
    "PrefixTuningConfig": ("PREFIX_TUNING", None),
}  # fmt: skip
_SOLVED = Effect("rotations by linalg.solve are not planned; planned with OFT's series", "with OFT's series")
_BY_NUMBER = "OFT by the number of its blocks is not planned; planned with blocks of 32"


def _too_small(value: Any) -> str:
    return "" if isinstance(value, int) and value > 1 else _BY_NUMBER


def _pattern(value: Any) -> str:
    return "a pattern is not planned; planned with PEFT's own choice" if isinstance(value, str) else ""


METHOD_RULES = (
    Rule("init_r", "lora.r"),
    Rule("vera_dropout", "lora.lora_dropout"),
    Rule("oft_block_size", "lora.oft_block_size", refused=_too_small),
    Rule("feedforward_modules", "lora.feedforward_modules", listed, refused=_pattern),
)


def read_peft_type(reading: Reading, key: str, kind: Any) -> None:
    """`key` says `kind`, PEFT's word for a method; one that no formula follows is planned as LoRA, and named."""
    word = str(kind).upper()
    if word not in METHODS:
        reading.leave_out(key, Effect(f"{kind} is not planned; planned as LoRA", "as LoRA", saves=True))
        word = "LORA"
    elif word != "LORA":
        reading.use(key, "lora.peft_type", word)
    if word == "ADALORA":  # whose r is another thing
        reading.put("lora.r", reading.config.get("init_r", CONFIGS["AdaLoraConfig"][1]))
    if reading.config.get("use_cayley_neumann") is False:
        reading.ignored = [item for item in reading.ignored if item.key != "use_cayley_neumann"]
        reading.leave_out("use_cayley_neumann", _SOLVED)
    options = reading.document.get("lora", {})
    method = METHODS[word]
    for name in [name for name in options if not method.reads(name) or (name == "r" and not method.has_rank)]:
        del options[name]
        said = next((item for item in reading.recognised if item.field == f"lora.{name}"), None)
        if said:
            reading.recognised.remove(said)
            reading.ignored.append(Ignored(said.key, f"{method.label} reads no {name}"))
