"""The caches of transformers' `generate`, as GenerationConfig names them.

Source: transformers 5.23 generation/configuration_utils.py (cache_implementation, cache_config) and cache_utils.py,
QuantizedCache, QuantoQuantizedLayer, HQQQuantizedLayer, Fp8QuantizedLayer: which backend takes which options.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, StrictInt, model_validator

from planner.request.base import Frozen

Backend = Literal["quanto", "hqq", "fp8"]
CacheImplementation = Literal["dynamic", "offloaded", "quantized"]
# Named by transformers, and refused with the reason: `generate` compiles their tokens' forward as CUDA graphs.
STATIC = ("static", "offloaded_static", "sliding_window", "hybrid", "hybrid_chunked", "offloaded_hybrid")
# hqq has 1 and 3 bits, too: 3 bits are packed in rows of ten, and neither is planned.
_BITS: dict[str, tuple[int, ...]] = {"quanto": (2, 4), "hqq": (2, 4, 8)}
_AXES: dict[str, tuple[int, ...]] = {"quanto": (0, -1), "hqq": (0, 1)}


class CacheConfig(Frozen):
    """`cache_config` of a quantized cache. What is left out is transformers' default: quanto, 4 bits, axis 0, 64, 128.

    The last `residual_length` tokens are kept as they are, and quantized together with all others when there are as
    many. fp8 has a scale for each tensor and none of the other options.
    """

    backend: Backend = "quanto"
    nbits: StrictInt = 4
    axis_key: StrictInt = 0
    axis_value: StrictInt = 0
    q_group_size: Annotated[StrictInt, Field(ge=1, le=65_536)] = 64
    residual_length: Annotated[StrictInt, Field(ge=1, le=16_777_216)] = 128

    @model_validator(mode="after")
    def _backend_takes_what_is_asked(self) -> Self:
        if self.backend == "fp8":
            if others := sorted(self.model_fields_set - {"backend"}):
                msg = f"fp8 has one scale for a tensor and takes no {', '.join(others)}; drop them"
                raise ValueError(msg)
            return self
        if self.nbits not in _BITS[self.backend]:
            msg = f"nbits: {self.backend} is planned with {_choices(_BITS[self.backend])}; got {self.nbits}"
            raise ValueError(msg)
        for name in ("axis_key", "axis_value"):
            if getattr(self, name) not in _AXES[self.backend]:
                msg = f"{name}: {self.backend} takes {_choices(_AXES[self.backend])}; got {getattr(self, name)}"
                raise ValueError(msg)
        return self


def _choices(numbers: tuple[int, ...]) -> str:
    return " or ".join(map(str, numbers))
