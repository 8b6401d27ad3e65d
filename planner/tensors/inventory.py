"""The census: every tensor of a model as (name, role, shape, count, quantizable?), tied weights once; buffers too."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Literal

from planner.request.dtypes import Dtype

# Numbers of layers, from 0.
Layers = range | tuple[int, ...]
Role = Literal["embedding", "head", "norm", "linear", "bias", "router", "expert", "other", "buffer", "tower"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorGroup:
    """`count` equal tensors. `name` is the dotted parameter path with layer (and expert) indices as `*`.

    `quantizable` is true where transformers hands the module to bitsandbytes: `nn.Linear` and `Conv1D` outside the
    automatic skip list (integrations/bitsandbytes.py, quantizers/base.py get_keys_to_not_convert).
    `keeps_float32` marks `_keep_in_fp32_modules_strict` and what the model's own code makes in float32,
    `keeps_float32_of_float16` marks `_keep_in_fp32_modules`, which a load in float16 alone respects.
    `stacked_in_checkpoint`: experts that the checkpoint holds in one tensor already, as the model does; others' are one
    tensor for each expert there, and the loader stacks them (transformers/conversion_mapping.py).
    A buffer lies on the card like a weight (rotary frequencies, a router's correction bias), but is no parameter:
    nothing quantizes, upcasts or trains it.
    `layers`: the layers that have it, where that is known; a range hashes in no time.
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    count: int
    quantizable: bool = False
    keeps_float32: bool = False
    keeps_float32_of_float16: bool = False
    stacked_in_checkpoint: bool = False
    layers: Layers = ()

    @property
    def params_each(self) -> int:
        """Elements of one tensor."""
        return prod(self.shape)

    def loaded_dtype(self, model_dtype: Dtype) -> Dtype:
        """What a load in `model_dtype` makes of it, quantization aside."""
        kept = self.keeps_float32 or (self.keeps_float32_of_float16 and model_dtype == "float16")
        return "float32" if kept else model_dtype

    @property
    def params(self) -> int:
        """Elements of the whole group."""
        return self.params_each * self.count


Census = tuple[TensorGroup, ...]


def as_layers(numbers: Iterable[int]) -> Layers:
    """Numbers of layers in order; a range where they are evenly spaced."""
    found = tuple(sorted(numbers))
    if len(found) < 2:
        return range(found[0], found[0] + 1) if found else ()
    spaced = range(found[0], found[-1] + 1, found[1] - found[0])
    return spaced if tuple(spaced) == found else found


def total_params(census: Iterable[TensorGroup]) -> int:
    """Parameters of the model, tied weights once."""
    return sum(group.params for group in census if group.role != "buffer")
