"""PEFT's methods that are planned, by its own word for them (`peft_type`), and what each one's configuration reads.

`r` is AdaLoRA's `init_r`. Source: peft 0.21.2, tuners/{lora,adalora,vera,ia3,oft}/config.py.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from planner.request.schema import Request, Stack

PeftType = Literal["LORA", "ADALORA", "VERA", "IA3", "OFT"]
_EVERYWHERE = frozenset({
    "peft_type", "target_modules", "exclude_modules", "modules_to_save", "modules_to_save_dtype", "fan_in_fan_out",
})  # fmt: skip
# No byte of a method that has no such option depends on them, and every form sends them.
_WITHOUT_EFFECT = frozenset({"r", "lora_alpha"})
# Of LoRA alone: the others' own.
_OF_OTHERS = frozenset({"oft_block_size", "feedforward_modules"})


class PeftMethod(NamedTuple):
    """`label`: what people call it. `own`: which fields of a request's `lora` its configuration has beside those that
    every one has; None has all of LoRA's. `trained`, `formula`, `source`: its tensors, their elements, and where PEFT
    makes them. `has_rank`: whether bytes depend on `r`.
    """

    label: str
    own: frozenset[str] | None
    trained: str
    formula: str
    source: str
    has_rank: bool = True

    def reads(self, option: str) -> bool:
        """Whether this method's configuration has a field of a request's `lora`, or no byte depends on it."""
        if self.own is None:
            return option not in _OF_OTHERS
        return option in self.own | _EVERYWHERE | _WITHOUT_EFFECT


_LAYERS = frozenset({"layers_to_transform", "layers_pattern"})
METHODS: dict[str, PeftMethod] = {
    "LORA": PeftMethod("LoRA", None, "LoRA matrices", "Σ r (K + N)", "peft/tuners/lora/layer.py update_layer"),
    "ADALORA": PeftMethod(
        "AdaLoRA", _LAYERS | {"lora_dropout"}, "AdaLoRA matrices", "Σ r (K + N + 1)",
        "peft/tuners/adalora/layer.py update_layer",
    ),
    "VERA": PeftMethod(
        "VeRA", _LAYERS | {"lora_dropout"}, "VeRA vectors", "Σ (N + r)", "peft/tuners/vera/layer.py update_layer"
    ),
    "IA3": PeftMethod(
        "IA3", frozenset({"feedforward_modules"}), "IA3 vectors", "Σ N, of a feed-forward module K",
        "peft/tuners/ia3/layer.py update_layer", has_rank=False,
    ),
    "OFT": PeftMethod(
        "OFT", _LAYERS | {"oft_block_size"}, "OFT rotations", "Σ K (b - 1) / 2 of blocks of b",
        "peft/tuners/oft/layer.py update_layer", has_rank=False,
    ),
}  # fmt: skip


def known_type(value: object) -> object:
    """PEFT's word in whichever case it was written."""
    return value.upper() if isinstance(value, str) else value


def adapter_problem(request: "Request") -> str:
    """What keeps a method beside LoRA from being planned, with the field and the fix; empty where nothing does."""
    label = METHODS[request.lora.peft_type].label
    if request.method == "full" or request.lora.peft_type == "LORA":
        return ""
    if request.quantization and request.quantization.quant_method != "bitsandbytes":
        return f"lora.peft_type: {label} is planned in 16 bit and on bitsandbytes' layers; use one, or LORA"
    if request.lora.peft_type == "IA3" and request.quantization and _leaves_dtypes(request.stack):
        return f"stack: {label} scales quantized layers in float32, which fails without autocast; use trl"
    if request.fsdp or request.deepspeed or request.device_map:
        return f"lora.peft_type: {label} over several cards is planned with ddp; use it, one card, or LORA"
    return ""


def _leaves_dtypes(stack: "str | Stack") -> bool:
    """Whether nothing brings a 16-bit model's tensors and others together: no autocast, no upcast."""
    if isinstance(stack, str):
        return stack == "loop"
    return stack.autocast is None and not stack.kbit_preparation and stack.model_dtype != "float32"
