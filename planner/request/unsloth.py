"""What a request may ask of the stack `unsloth`, and what Unsloth does of itself.

Source: unsloth 2026.10.9 models/loader.py and models/llama.py (from_pretrained, get_peft_model).
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.request.schema import Request

UNSLOTH = "unsloth"
# Families whose layers Unsloth replaces by its own; the others it compiles as they are.
REPLACED = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma"})

# What its fused functions have no form of here.
_PLAIN_ADAPTERS = (
    "rank_pattern", "exclude_modules", "layers_to_transform", "target_parameters", "trainable_token_indices",
    "bias", "peft_type",
)  # fmt: skip


def checked_checkpointing(value: object) -> object:
    """What `gradient_checkpointing` takes.

    Raises:
        ValueError: neither a boolean nor Unsloth's own word.
    """
    if isinstance(value, bool) or value == UNSLOTH:
        return value
    msg = "must be true or false, or unsloth with that stack"
    raise ValueError(msg)


def with_offloading(data: Mapping[str, Any]) -> dict[str, Any]:
    """`use_gradient_checkpointing="unsloth"`, which is what get_peft_model does by default."""
    written = dict(data)
    training = written.get("training")
    if written.get("stack") == UNSLOTH and (training is None or isinstance(training, Mapping)):
        written["training"] = {"gradient_checkpointing": UNSLOTH, **(training or {})}
    return written


def on_stack(request: "Request", stack: str) -> "Request":
    """The same run on another preset, checkpointed as that does it.

    Raises:
        InvalidRequestError: that stack cannot be asked for it.
    """
    checkpointing: bool | str = request.training.gradient_checkpointing
    if checkpointing:
        checkpointing = UNSLOTH if stack == UNSLOTH else True
    training = request.training.model_copy(update={"gradient_checkpointing": checkpointing})
    fields = {name: getattr(request, name) for name in type(request).model_fields}
    return type(request).parse({**fields, "stack": stack, "training": training})


def problems(request: "Request") -> Iterator[str]:
    """One sentence for each thing that this stack cannot be asked; the field comes first."""
    training, quantization = request.training, request.quantization
    if request.stack != UNSLOTH:
        if training.gradient_checkpointing == UNSLOTH:
            yield "training.gradient_checkpointing: only stack unsloth offloads by this name; write true, or name it"
        return
    if request.method == "full":
        yield "stack: full fine-tuning with Unsloth is not planned; use method qlora or lora, or stack trl"
    if request.gpus > 1 or request.ddp or request.fsdp or request.deepspeed or request.device_map:
        yield "stack: Unsloth is planned on one card; drop the others, or use stack trl"
    if training.objective != "sft":
        yield f"stack: {training.objective} with Unsloth is not planned; use objective sft, or stack trl"
    if quantization and quantization.kinds != ("load_in_4bit",) and request.method == "qlora":
        yield "stack: Unsloth is planned in 4 bit (load_in_4bit) or 16 bit (method lora); use one of them, or stack trl"
    elif quantization and quantization.bnb_4bit_quant_type != "nf4":
        yield "stack: Unsloth loads 4-bit weights as nf4; write bnb_4bit_quant_type nf4"
    if request.lora.use_dora:
        yield "stack: DoRA with Unsloth is not planned; drop use_dora, or use stack trl"
    if request.lora.modules_to_save:
        yield "stack: modules_to_save with Unsloth is not planned; drop it, or use stack trl"
    unlike = [name for name in _PLAIN_ADAPTERS if getattr(request.lora, name) not in (None, (), "none", "LORA")]
    if unlike:
        yield f"stack: not planned with Unsloth: {', '.join(unlike)}; drop what is named, or use stack trl"
    if training.loss is not None:
        yield "training.loss: Unsloth brings a cross entropy of its own; drop it"
    if training.attn_implementation is not None or training.sdpa_kernel != "auto":
        yield "training.attn_implementation: Unsloth chooses the kernel itself; drop it and sdpa_kernel"


def family_problem(model_type: str, *, windowed: bool) -> str | None:
    """Why no formula follows Unsloth's layers of this family; None where one does."""
    if model_type not in REPLACED:
        return (
            f"Unsloth's own layers are those of {', '.join(sorted(REPLACED))}; what it does with {model_type} is not "
            "planned. Use stack trl, which keeps more"
        )
    return "Unsloth with sliding windows is not planned. Use stack trl, which keeps more" if windowed else None
