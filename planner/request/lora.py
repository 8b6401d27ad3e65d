"""What a LoraConfig says, in peft's words."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    StrictBool,
    StrictInt,
    WithJsonSchema,
    model_validator,
)

from planner.request.base import Frozen, Name, Pattern
from planner.request.dtypes import Dtype
from planner.request.initialisation import checked_initialisation
from planner.request.peft_types import METHODS, PeftType, known_type
from planner.request.validation.patterns import MOST_NAMES
from planner.request.validation.unions import LIST, NUMBER, TEXT, by_kind

# Limits say "this is a typing mistake": no public adapter has a rank above a few thousand.
Rank = Annotated[StrictInt, Field(ge=1, le=8_192)]
Fraction = Annotated[float, Field(strict=True, ge=0.0, lt=1.0)]
Alpha = Annotated[float, Field(strict=True, gt=0, le=1e6)]


def _items(value: Any) -> Any:
    """An object's pairs, so that a Lora can be compared and kept."""
    return tuple(value.items()) if isinstance(value, Mapping) else value


def _of_the_embedding(value: Any) -> Any:
    """The tokens, where they are written under the embedding's name.

    Raises:
        ValueError: they are written under several names.
    """
    if not isinstance(value, Mapping):
        return value
    if len(value) != 1 or str(next(iter(value))).rpartition(".")[2] not in _EMBEDDINGS:
        msg = f"is planned of the input embedding alone; write a list, or that under one of {', '.join(_EMBEDDINGS)}"
        raise ValueError(msg)
    return next(iter(value.values()))


def _object(value: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "object", "additionalProperties": {"type": value}})


# What decoders call their input embeddings.
_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "embeddings")
_Token = Annotated[StrictInt, Field(ge=0, le=16_777_216)]
_Tokens = Annotated[tuple[_Token, ...], Field(min_length=1, max_length=65_536)]
Names = Annotated[Pattern, TEXT] | Annotated[tuple[Name, ...], Field(max_length=MOST_NAMES), LIST]
# The deepest public model has 126 layers (Llama 3.1 405B).
_Layer = Annotated[StrictInt, Field(ge=0, le=1_024)]
_Layers = Annotated[_Layer, NUMBER] | Annotated[tuple[_Layer, ...], Field(max_length=1_024), LIST]
_LayerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}(\.[A-Za-z0-9_]{1,64}){0,8}$")]
_LayerNames = Annotated[_LayerName, TEXT] | Annotated[tuple[_LayerName, ...], Field(max_length=16), LIST]
Ranks = Annotated[
    tuple[tuple[Pattern, Rank], ...],
    Field(max_length=MOST_NAMES), BeforeValidator(_items), PlainSerializer(dict), _object("integer"),
]  # fmt: skip
Alphas = Annotated[
    tuple[tuple[Pattern, Alpha], ...],
    Field(max_length=MOST_NAMES), BeforeValidator(_items), PlainSerializer(dict), _object("number"),
]  # fmt: skip


class Lora(Frozen):
    """What `LoraConfig` takes, as far as it can be planned. Defaults are the QLoRA chapter's.

    `peft_type` names another of PEFT's methods in its place, whose configuration then says the rest
    (planner/request/peft_types.py); `lora_dropout` is VeRA's `vera_dropout`, `oft_block_size` OFT's own, and
    `feedforward_modules` IA3's, which PEFT knows by itself for many families.

    No byte depends on `lora_alpha`, `alpha_pattern`, `use_rslora` and `fan_in_fan_out`; nor on `loraplus_lr_ratio`,
    with which peft's create_loraplus_optimizer sorts the same parameters into groups.
    `modules_to_save_dtype` is a trainer's, not PEFT's: what it casts the copies to that PEFT leaves in the dtype of
    their originals (LLaMA-Factory turns all that is trained to float32).
    """

    peft_type: Annotated[PeftType, BeforeValidator(known_type)] = "LORA"
    r: Rank = 16
    lora_alpha: Alpha = 32
    lora_dropout: Fraction = 0.0
    target_modules: Annotated[
        Names, by_kind('write "all-linear", a pattern, or a list of module names')
    ] = "all-linear"
    target_parameters: Annotated[tuple[Name, ...], Field(max_length=MOST_NAMES)] | None = None
    trainable_token_indices: Annotated[_Tokens, BeforeValidator(_of_the_embedding)] | None = None
    layers_to_transform: Annotated[_Layers, by_kind("write the number of a layer, or a list of them")] | None = None
    layers_pattern: Annotated[_LayerNames, by_kind("write a name such as layers, or a list of names")] | None = None
    exclude_modules: Annotated[Names, by_kind("write a pattern, or a list of module names")] | None = None
    rank_pattern: Ranks = ()
    alpha_pattern: Alphas = ()
    use_dora: StrictBool = False
    use_rslora: StrictBool = False
    bias: Literal["none", "all", "lora_only"] = "none"
    fan_in_fan_out: StrictBool = False
    init_lora_weights: Annotated[StrictBool | str, AfterValidator(checked_initialisation)] = True
    modules_to_save: Annotated[tuple[Name, ...], Field(max_length=MOST_NAMES)] | None = None
    modules_to_save_dtype: Dtype | None = None
    ensure_weight_tying: StrictBool = False
    loraplus_lr_ratio: Annotated[float, Field(gt=0, le=1e6)] | None = None
    oft_block_size: Annotated[StrictInt, Field(ge=2, le=65_536)] = 32
    feedforward_modules: Annotated[tuple[Name, ...], Field(max_length=MOST_NAMES)] | None = None

    @model_validator(mode="after")
    def _method_reads_the_options(self) -> Self:
        method = METHODS[self.peft_type]
        fields = type(self).model_fields
        unread = [name for name in fields if getattr(self, name) != fields[name].default and not method.reads(name)]
        if unread:
            its = "is not among" if len(unread) == 1 else "are not among"
            msg = f"{unread[0]}: {', '.join(unread)} {its} what is planned of {method.label}; drop it"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _pattern_belongs_to_layers(self) -> Self:
        """peft 0.21.2, LoraConfig.__post_init__."""
        if self.layers_pattern and self.layers_to_transform is None:
            msg = "layers_pattern: says where layers are counted; write which in layers_to_transform, too"
            raise ValueError(msg)
        return self
