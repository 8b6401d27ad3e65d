"""The document of an inference question: a model, a card, an engine, how much context for how many users.

Field names are the ecosystem's: BitsAndBytesConfig, LoraConfig, vLLM's engine arguments, llama.cpp's options.
"""

from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, ValidationError, field_validator, model_validator

from planner.errors import InvalidRequestError
from planner.request.dtypes import HalfDtype
from planner.request.lora import Lora
from planner.request.recipe import Recipe
from planner.request.schema import (
    Attention,
    Count,
    CustomGpu,
    Quantization,
    Request,
    Stack,
    Subject,
    Tokens,
)
from planner.request.validation.messages import field_problems
from planner.serving.generation_cache import STATIC, CacheConfig, CacheImplementation

Engine = Literal["transformers", "vllm", "llama.cpp"]
CacheType = Literal["auto", "fp8", "f16", "q8_0", "q4_0"]
# Files whose bits per weight llama.cpp publishes (planner/serving/llama_cpp.py).
Gguf = Literal[
    "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "IQ4_XS", "Q3_K_L", "Q3_K_S", "Q2_K",
]  # fmt: skip
_CACHE_TYPES: dict[Engine, tuple[CacheType, ...]] = {
    "transformers": ("auto",), "vllm": ("auto", "fp8"), "llama.cpp": ("auto", "f16", "q8_0", "q4_0"),
}  # fmt: skip


class Inference(Subject):
    """How much context for how many users at a time on one card?

    `context` counts prompt and answer, of which `max_new_tokens` are the answer. `lora` is an adapter beside the
    weights; a merged one is part of them and takes nothing.
    `gpu_memory_utilization` is vLLM's, `gguf` llama.cpp's kind of file; `kv_cache_dtype` is either's.
    `cache_implementation` and `cache_config` are GenerationConfig's, of transformers alone.
    """

    engine: Engine = "transformers"
    context: Tokens = 4096
    max_new_tokens: Tokens = 256
    batch: Count = 1
    dtype: HalfDtype = "bfloat16"
    quantization: Quantization | None = None
    lora: Lora | None = None
    adapter_merged: StrictBool = False
    attn_implementation: Attention | None = None
    kv_cache_dtype: CacheType = "auto"
    cache_implementation: CacheImplementation = "dynamic"
    cache_config: CacheConfig | None = None
    gpu_memory_utilization: Annotated[float, Field(strict=True, gt=0.0, le=1.0)] = 0.9
    gguf: Gguf = "Q4_K_M"

    @model_validator(mode="after")
    def _has_a_prompt(self) -> Self:
        if self.max_new_tokens >= self.context:
            msg = f"context: {self.context} tokens hold no prompt beside {self.max_new_tokens} new ones; write more"
            raise ValueError(msg)
        return self

    @field_validator("cache_implementation", mode="before")
    @classmethod
    def _is_not_compiled(cls, value: object) -> object:
        if value in STATIC:
            msg = (
                f"{value} is not planned: generate compiles it with torch.compile into CUDA graphs, whose memory no "
                "dry run shows; write dynamic, offloaded or quantized"
            )
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _cache_is_one_of_transformers(self) -> Self:
        asked = [name for name in ("cache_implementation", "cache_config") if name in self.model_fields_set]
        if asked and self.engine != "transformers":
            msg = f"{asked[0]}: {self.engine} has caches of its own; drop it, or write engine transformers"
            raise ValueError(msg)
        if self.cache_config and self.cache_implementation != "quantized":
            msg = f"cache_config: a {self.cache_implementation} cache has none; write cache_implementation quantized"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _engine_takes_what_is_asked(self) -> Self:
        if self.kv_cache_dtype not in _CACHE_TYPES[self.engine]:
            msg = f"kv_cache_dtype: {self.engine} is planned with {', '.join(_CACHE_TYPES[self.engine])} only"
            raise ValueError(msg)
        if self.engine != "llama.cpp" and "gguf" in self.model_fields_set:
            msg = f"gguf: {self.engine} is planned without GGUF files; write engine llama.cpp, or a quantization"
            raise ValueError(msg)
        if self.engine != "vllm" and "gpu_memory_utilization" in self.model_fields_set:
            msg = f"gpu_memory_utilization: {self.engine} takes no share of the card; drop it, or write engine vllm"
            raise ValueError(msg)
        if self.engine == "llama.cpp" and self.quantization:
            msg = "quantization: llama.cpp reads a GGUF file; say which kind with gguf, such as Q4_K_M"
            raise ValueError(msg)
        if self.engine != "transformers" and self.beside:
            msg = f"lora: only transformers is planned with an adapter beside; merge it for {self.engine}"
            raise ValueError(msg)
        return self

    @classmethod
    def parse(cls, data: object) -> "Inference":
        """Build a question from decoded JSON.

        Raises:
            InvalidRequestError: names every bad field at once and says the fix.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            problems = field_problems(error.errors(include_url=False), _KNOWN_KEYS)
            raise InvalidRequestError("The request has fields that cannot be used.", problems) from None

    @property
    def prompt(self) -> int:
        """Tokens of each sequence that are there before the first new one."""
        return self.context - self.max_new_tokens

    @property
    def quantized_cache(self) -> CacheConfig | None:
        """How the cache is quantized, where it is."""
        return (self.cache_config or CacheConfig()) if self.cache_implementation == "quantized" else None

    @property
    def beside(self) -> Lora | None:
        """The adapter that stays apart from the weights, if there is one."""
        return None if self.adapter_merged else self.lora

    def as_loaded(self) -> Request:
        """The request whose base model is the one that is served."""
        return Request.parse({
            "model": self.model,
            "gpu": self.gpu,
            "method": "qlora" if self.quantization else "lora",
            "quantization": self.quantization,
            "lora": self.beside or Lora(),
            "training": {
                "per_device_train_batch_size": self.batch, "max_length": self.prompt,
                "gradient_checkpointing": False, "attn_implementation": self.attn_implementation,
            },
            "stack": Stack(model_dtype=self.dtype),
        })  # fmt: skip

    def recipe(self, loaded: Request) -> Recipe:
        """What the formulas read of `loaded`, without a step: only an adapter that stays apart is one."""
        recipe = Recipe.of(loaded)
        return recipe if self.beside else _without_adapter(recipe)


def _without_adapter(recipe: Recipe) -> Recipe:
    return replace(recipe, lora=None)


_PARTS = (Inference, CacheConfig, Quantization, Lora, CustomGpu)
_KNOWN_KEYS = sorted({key for part in _PARTS for key in part.model_fields})
