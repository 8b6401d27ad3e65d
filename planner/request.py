"""The one document every door accepts: a model, a card and a training recipe. Frozen and valid from birth.

Field names are the ecosystem's: BitsAndBytesConfig, LoraConfig, TrainingArguments / SFTConfig.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    model_validator,
)

from planner.errors import FieldProblem, InvalidRequestError

Method = Literal["qlora", "lora", "full"]

_DTYPE_SPELLINGS = {
    "fp32": "float32", "float": "float32", "fp16": "float16", "half": "float16", "bf16": "bfloat16",
}  # fmt: skip


def _plain_dtype(value: object) -> object:
    """`torch.bfloat16`, as people paste it, and `bf16` both mean `bfloat16`."""
    if not isinstance(value, str):
        return value
    name = value.removeprefix("torch.")
    return _DTYPE_SPELLINGS.get(name, name)


Dtype = Annotated[Literal["float32", "float16", "bfloat16"], BeforeValidator(_plain_dtype)]
HalfDtype = Annotated[Literal["float16", "bfloat16"], BeforeValidator(_plain_dtype)]
StackName = Literal["trainer", "trl", "kbit", "loop"]
Optimizer = Literal[
    "adamw_torch", "adamw_torch_fused", "adamw_8bit", "adamw_bnb_8bit",
    "paged_adamw_8bit", "paged_adamw_32bit", "adafactor", "sgd",
]  # fmt: skip
Attention = Literal["sdpa", "eager", "flash_attention_2"]
SdpaKernel = Literal["auto", "flash", "mem_efficient", "math", "cudnn"]
Loss = Literal["full_logits", "chunked", "liger"]

# Limits say "this is a typing mistake", not "this would not fit": the largest public context is 10 M tokens
# (Llama 4 Scout) and no public adapter has a rank above a few thousand.
Tokens = Annotated[StrictInt, Field(ge=1, le=16_777_216)]
Count = Annotated[StrictInt, Field(ge=1, le=65_536)]
Rank = Annotated[StrictInt, Field(ge=1, le=8_192)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Name = Annotated[str, Field(min_length=1, max_length=300)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CustomGpu(_Frozen):
    """A card outside the catalogue, as `torch.cuda.get_device_properties` describes it."""

    total_memory_bytes: Annotated[StrictInt, Field(ge=1 << 28, le=1 << 44)]
    compute_capability: Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")]
    name: Name = "custom card"


class Quantization(_Frozen):
    """What `BitsAndBytesConfig` takes, with *its* defaults (fp4, no double quantization, float32 compute).

    Source: transformers/utils/quantization_config.py, BitsAndBytesConfig. `hqq` is the group-wise int4 kind.
    """

    quant_method: Literal["bitsandbytes", "hqq"] = "bitsandbytes"
    load_in_4bit: StrictBool = False
    load_in_8bit: StrictBool = False
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "fp4"
    bnb_4bit_use_double_quant: StrictBool = False
    bnb_4bit_compute_dtype: Dtype = "float32"
    llm_int8_skip_modules: tuple[Name, ...] | None = None
    group_size: Literal[32, 64, 128, 256] = 64


class Lora(_Frozen):
    """What `LoraConfig` takes, as far as it moves bytes. Defaults are the QLoRA chapter's."""

    r: Rank = 16
    lora_alpha: Annotated[float, Field(gt=0, le=1e6)] = 32
    lora_dropout: Fraction = 0.0
    target_modules: Name | tuple[Name, ...] = "all-linear"
    use_dora: StrictBool = False
    use_rslora: StrictBool = False


class Training(_Frozen):
    """What `TrainingArguments` / `SFTConfig` take, as far as it moves bytes.

    None means "what the stack or the model does by default": TRL's chunked loss, Gemma 2's eager attention.
    """

    per_device_train_batch_size: Count = 1
    gradient_accumulation_steps: Count = 1
    max_length: Tokens = 2048
    gradient_checkpointing: StrictBool = True
    use_reentrant: StrictBool = False
    optim: Optimizer = "paged_adamw_8bit"
    attn_implementation: Attention | None = None
    sdpa_kernel: SdpaKernel = "auto"
    loss: Loss | None = None
    padded: StrictBool = False
    max_grad_norm: Annotated[float, Field(ge=0.0, le=1e6)] = 1.0


class Stack(_Frozen):
    """The numerical path written out, for harnesses that no preset describes."""

    model_dtype: Dtype = "bfloat16"
    kbit_preparation: StrictBool = False
    autocast: HalfDtype | None = None
    adapter_dtype: Dtype = "float32"
    outputs_kept: StrictBool = False


# The chapter's own configuration: 4-bit NormalFloat, double quantization, bfloat16 compute.
CHAPTER_QUANTIZATION = Quantization(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype="bfloat16",
)

_FLAT_QUANTIZATION = frozenset(Quantization.model_fields)
_FLAT_LORA = {
    "lora_r": "r", "r": "r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout",
    "target_modules": "target_modules", "use_dora": "use_dora", "use_rslora": "use_rslora",
}  # fmt: skip


class Request(_Frozen):
    """Will this model, trained by this recipe, fit on this card?"""

    model: Name | dict[str, Any]
    gpu: Name | CustomGpu
    method: Method = "qlora"
    quantization: Quantization | None = None
    lora: Lora = Lora()
    training: Training = Training()
    stack: StackName | Stack = "trainer"

    @model_validator(mode="before")
    @classmethod
    def _lift_flat_keys(cls, data: Any) -> Any:
        """Accept the chapter's flat dictionary beside the nested one."""
        return _nest_flat_keys(data) if isinstance(data, Mapping) else data

    @model_validator(mode="after")
    def _method_and_quantization_agree(self) -> Self:
        quantized = self.quantization is not None and (
            self.quantization.load_in_4bit or self.quantization.load_in_8bit or self.quantization.quant_method == "hqq"
        )
        if self.method == "qlora" and self.quantization is None:
            object.__setattr__(self, "quantization", CHAPTER_QUANTIZATION)
        elif self.method == "qlora" and not quantized:
            msg = "quantization: qlora needs load_in_4bit or load_in_8bit to be true; or use method lora"
            raise ValueError(msg)
        elif self.method != "qlora" and quantized:
            msg = f"quantization: method {self.method} trains unquantized weights; drop it or use method qlora"
            raise ValueError(msg)
        if quantized and self.quantization and self.quantization.load_in_4bit and self.quantization.load_in_8bit:
            msg = "quantization: load_in_4bit and load_in_8bit exclude each other; keep one"
            raise ValueError(msg)
        return self

    @classmethod
    def parse(cls, data: object) -> "Request":
        """Build a Request from decoded JSON.

        Raises:
            InvalidRequestError: names every bad field at once and says the fix.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise InvalidRequestError("The request has fields that cannot be used.", _problems(error)) from None


def _nest_flat_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    nested = dict(data)
    for section, keys in (("quantization", {k: k for k in _FLAT_QUANTIZATION}), ("lora", _FLAT_LORA)):
        flat = {key: nested.pop(key) for key in keys if key in nested}
        if flat and isinstance(nested.get(section, {}), Mapping):
            renamed = {keys[key]: value for key, value in flat.items()}
            nested[section] = renamed | dict(nested.get(section) or {})
    return nested


def _problems(error: ValidationError) -> list[FieldProblem]:
    problems = []
    for detail in error.errors(include_url=False):
        path = ".".join(str(part) for part in detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            message = "unknown key; check the spelling or remove it"
        if not path and ": " in message:
            path, message = message.split(": ", 1)
        problems.append(FieldProblem(path or "request", message))
    return problems
