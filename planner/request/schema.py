"""The one document every door accepts: a model, a card and a training recipe. Frozen and valid from birth.

Field names are the ecosystem's: BitsAndBytesConfig, LoraConfig, TrainingArguments / SFTConfig.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictInt, ValidationError, model_validator

from planner.errors import FieldProblem, InvalidRequestError
from planner.request import parallelism, unsloth
from planner.request.base import Frozen, Name, Pattern
from planner.request.device_map import CardNames, DeviceMapWords, MaxMemory, device_map_problem
from planner.request.dtypes import Dtype, HalfDtype, QuantStorage
from planner.request.library_switches import without_switches
from planner.request.lora import Lora, Names
from planner.request.low_rank import OptimArgs, named_arguments, projection_problem
from planner.request.optimizer_names import Optimizer, checked_optimizer
from planner.request.parallel import Cards, Ddp, DeepSpeed, Fsdp
from planner.request.parallel_words import with_cards
from planner.request.parallelism import Parallelism
from planner.request.peft_types import adapter_problem
from planner.request.training_options import OptionFields, qat_problem
from planner.request.validation.compute_capability import ComputeCapability
from planner.request.validation.disagreement import refuse_together
from planner.request.validation.messages import field_problems
from planner.request.validation.patterns import MOST_NAMES, checked_list
from planner.request.validation.unions import OBJECT, TEXT, by_kind

Method = Literal["qlora", "lora", "full"]

StackName = Literal["trainer", "trl", "kbit", "loop", "unsloth"]
Attention = Literal["sdpa", "eager", "flash_attention_2"]
SdpaKernel = Literal["auto", "flash", "mem_efficient", "math", "cudnn"]
Loss = Literal["full_logits", "chunked", "liger", "cut_cross_entropy"]

Checkpointing = Annotated[StrictBool | Literal["unsloth"], BeforeValidator(unsloth.checked_checkpointing)]
# Limits say "this is a typing mistake", not "this would not fit": the largest public context is 10 M tokens
# (Llama 4 Scout).
Tokens = Annotated[StrictInt, Field(ge=1, le=16_777_216)]
Count = Annotated[StrictInt, Field(ge=1, le=65_536)]
BlockSize = Annotated[StrictInt, Field(ge=1, le=65_536)]


class CustomGpu(Frozen):
    """A card outside the catalogue, as `torch.cuda.get_device_properties` describes it.

    Its kernels are those of compute capability 8.9 where none is given, as at every door.
    """

    total_memory_bytes: Annotated[StrictInt, Field(ge=1 << 28, le=1 << 44)]
    compute_capability: ComputeCapability = "8.9"
    name: Name = "custom card"


class Quantization(Frozen):
    """What `BitsAndBytesConfig` takes, with *its* defaults (fp4, no double quantization, float32 compute).

    Source: transformers/utils/quantization_config.py, BitsAndBytesConfig. `hqq` is the group-wise int4 kind, the one
    PEFT trains (planner/tensors/storage_formats.py says why); it reads `group_size` only. `awq`, `gptq` and `fp8` are
    kinds that a checkpoint brings along (planner/model/quantized_checkpoint.py); they read `bits`, `group_size` and
    `weight_block_size`.
    """

    quant_method: Literal["bitsandbytes", "hqq", "awq", "gptq", "fp8"] = "bitsandbytes"
    load_in_4bit: StrictBool = False
    load_in_8bit: StrictBool = False
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "fp4"
    bnb_4bit_use_double_quant: StrictBool = False
    bnb_4bit_compute_dtype: Dtype = "float32"
    bnb_4bit_quant_storage: QuantStorage = "uint8"
    llm_int8_skip_modules: (
        Annotated[tuple[Pattern, ...], Field(max_length=MOST_NAMES), AfterValidator(checked_list)] | None
    ) = None
    group_size: Literal[-1, 16, 32, 64, 128, 256, 512, 1024] = 64
    bits: Literal[2, 4, 8] = 4
    weight_block_size: tuple[BlockSize, BlockSize] | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it asks for; more than one is a contradiction, none leaves the model as it is."""
        asked = {
            "load_in_4bit": self.load_in_4bit,
            "load_in_8bit": self.load_in_8bit,
            f"quant_method {self.quant_method}": self.quant_method != "bitsandbytes",
        }
        return tuple(kind for kind, wanted in asked.items() if wanted)


class Training(OptionFields):
    """What `TrainingArguments` / `SFTConfig` take, as far as it moves bytes.

    None means "what the stack or the model does by default": TRL's chunked loss, Gemma 2's eager attention.
    `expandable_segments` is an environment variable: PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True.
    """

    per_device_train_batch_size: Count = 1
    gradient_accumulation_steps: Count = 1
    max_length: Tokens = 2048
    gradient_checkpointing: Checkpointing = True
    use_reentrant: StrictBool = False
    optim: Annotated[Optimizer, BeforeValidator(checked_optimizer)] = "paged_adamw_8bit"
    optim_args: Annotated[OptimArgs | None, BeforeValidator(named_arguments)] = None
    optim_target_modules: Annotated[Names, by_kind('write "all-linear", a pattern, or a list of names')] | None = None
    attn_implementation: Attention | None = None
    sdpa_kernel: SdpaKernel = "auto"
    loss: Loss | None = None
    padded: StrictBool = False
    max_grad_norm: Annotated[float, Field(strict=True, ge=0.0, le=1e6)] = 1.0
    expandable_segments: StrictBool = False


class Stack(Frozen):
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

CHECKPOINT_KINDS = frozenset({"awq", "gptq", "fp8"})  # that only a checkpoint can bring along
_KINDS = frozenset({"quant_method", "load_in_4bit", "load_in_8bit"})  # the keys that say which kind is meant


def _completed(quantization: Quantization | None) -> Quantization:
    """The chapter's own, with what `quantization` says of it: a part that names no kind is a part of the recipe."""
    written = {key: getattr(quantization, key) for key in quantization.model_fields_set} if quantization else {}
    return CHAPTER_QUANTIZATION.model_copy(update=written)


_FLAT_LORA = {"lora_r": "r", **{name: name for name in Lora.model_fields}}


class Subject(Frozen):
    """What every question is about: a model and a card."""

    model: Annotated[
        Annotated[Name, TEXT] | Annotated[dict[str, Any], AfterValidator(without_switches), OBJECT],
        by_kind('write a catalogue id, a hub id such as "meta-llama/Llama-2-7b-hf", or a whole config.json object'),
    ]
    gpu: Annotated[
        Annotated[Name, TEXT] | Annotated[CustomGpu, OBJECT],
        by_kind('write a catalogue id such as "rtx-4090", or total_memory_bytes and compute_capability'),
    ]


class Request(Subject):
    """Will this model, trained by this recipe, fit on this card?"""

    method: Method = "qlora"
    quantization: Quantization | None = None
    lora: Lora = Lora()
    training: Training = Training()
    stack: Annotated[
        Annotated[StackName, TEXT] | Annotated[Stack, OBJECT],
        by_kind("write trainer, trl, kbit, loop or unsloth, or an object of switches"),
    ] = "trainer"
    gpus: Cards = 1
    ddp: Ddp | None = None
    fsdp: Fsdp | None = None
    deepspeed: DeepSpeed | None = None
    device_map: DeviceMapWords | None = None
    max_memory: MaxMemory | None = None
    cards: CardNames | None = None
    parallelism_config: Parallelism | None = None
    # Tokens to train on, and what an hour of one card costs: no byte depends on them.
    tokens: Annotated[StrictInt, Field(ge=1, le=10**15)] | None = None
    price_per_hour: Annotated[float, Field(gt=0, le=1e6)] | None = None

    def __hash__(self) -> int:
        """Answers are kept by their request: maps of cards (`device_map`, `max_memory`) are part of it."""
        values = vars(self).values()
        return hash(tuple(frozenset(value.items()) if isinstance(value, dict) else value for value in values))

    @model_validator(mode="before")
    @classmethod
    def _lift_flat_keys(cls, data: Any) -> Any:
        """Accept the chapter's flat dictionary beside the nested one, and cards as people count them: 2x3090."""
        return unsloth.with_offloading(with_cards(_nest_flat_keys(data))) if isinstance(data, Mapping) else data

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        quantization = self.quantization
        if self.method == "qlora" and (quantization is None or not quantization.model_fields_set & _KINDS):
            object.__setattr__(self, "quantization", _completed(quantization))
        elif self.method == "lora" and quantization and quantization.kinds == ("load_in_8bit",):
            # LoRA on an int8 base is what people call it; here every quantized base is QLoRA.
            object.__setattr__(self, "method", "qlora")
        refuse_together((
            *self._of_cards_and_training(), *parallelism.problems(self), *self._of_quantization(),
            *unsloth.problems(self), adapter_problem(self),
        ))  # fmt: skip
        return self

    def _of_cards_and_training(self) -> Iterator[str | None]:
        if self.price_per_hour and not self.tokens:
            yield "price_per_hour: of how many tokens? Write tokens (--tokens N) beside it"
        asked = [name for name in ("ddp", "fsdp", "deepspeed", "device_map") if getattr(self, name) is not None]
        if len(asked) > 1:
            yield f"{asked[1]}: {' and '.join(asked)} exclude each other; keep one"
        training = self.training
        yield from training.objective_problems(training.loss, asked)
        yield from training.option_problems(self.stack, training.loss, padded=training.padded)
        cut, targets = next((name for name in asked if name != "ddp"), ""), training.optim_target_modules
        yield device_map_problem(self.device_map, self.max_memory, self.cards, self.gpus)
        yield projection_problem(training.optim, training.optim_args, targets, self.method, cut)
        elsewhere = "stack unsloth" if self.stack == "unsloth" else next(iter(asked), "--gpus" if self.gpus > 1 else "")
        yield qat_problem(
            training.qat, self.method, offloads=training.activation_offloading, objective=training.objective,
            elsewhere=elsewhere,
        )  # fmt: skip
        batch, accumulation = training.per_device_train_batch_size * self.gpus, training.gradient_accumulation_steps
        if training.objective == "grpo":
            yield training.generation_problem(length=training.max_length, batch=batch, accumulation=accumulation)

    def _of_quantization(self) -> Iterator[str]:
        kinds = self.quantization.kinds if self.quantization else ()
        if self.method == "qlora" and not kinds:
            yield "quantization: qlora needs load_in_4bit or load_in_8bit to be true; or use method lora"
        if self.method != "qlora" and kinds:
            yield f"quantization: method {self.method} trains unquantized weights; drop it or use method qlora"
        if len(kinds) > 1:
            yield f"quantization: {' and '.join(kinds)} exclude each other; keep one"
        if self.quantization and self.quantization.quant_method == "hqq" and self.quantization.group_size < 1:
            yield "quantization: hqq needs a group_size, such as 64"

    @classmethod
    def parse(cls, data: object) -> "Request":
        """Build a Request from decoded JSON.

        Raises:
            InvalidRequestError: names every bad field at once and says the fix.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            problems = _as_written(field_problems(error.errors(include_url=False), _KNOWN_KEYS), data)
            raise InvalidRequestError("The request has fields that cannot be used.", problems) from None


_SECTIONS = (("quantization", {key: key for key in Quantization.model_fields}), ("lora", _FLAT_LORA))
_KNOWN_KEYS = sorted({
    key
    for part in (Request, Quantization, Lora, Training, Stack, CustomGpu, Ddp, Fsdp, DeepSpeed, Parallelism)
    for key in part.model_fields
})


def _nest_flat_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    """Move flat keys into their section. One that contradicts its section stays, to be complained about."""
    nested = dict(data)
    for section, names in _SECTIONS:
        inner = nested.get(section)
        if not (inner is None or isinstance(inner, Mapping)):
            continue
        merged = dict(inner or {})
        for key, name in names.items():
            if key in nested and merged.get(name, nested[key]) == nested[key]:
                merged[name] = nested.pop(key)
        if merged:
            nested[section] = merged
    return nested


def _as_written(problems: list[FieldProblem], data: object) -> list[FieldProblem]:
    """Name a field by the flat key where the caller used one."""
    if not isinstance(data, Mapping):
        return problems
    nested = {key: f"{section}.{name}" for section, names in _SECTIONS for key, name in names.items() if key in data}
    contradicted = {problem.field for problem in problems if problem.field in nested}
    flat = {path: key for key, path in nested.items() if key not in contradicted}
    return [
        FieldProblem(problem.field, f"contradicts {nested[problem.field]}; keep one of the two")
        if problem.field in contradicted
        else FieldProblem(flat.get(problem.field, problem.field), problem.message)
        for problem in problems
    ]
