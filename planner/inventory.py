"""The census: every tensor of a model as (name, role, shape, count, quantizable?), tied weights once."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Literal

Role = Literal["embedding", "head", "norm", "linear", "bias", "router", "expert", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorGroup:
    """`count` equal tensors. `name` is the dotted parameter path with layer (and expert) indices as `*`.

    `quantizable` is true where transformers hands the module to bitsandbytes: `nn.Linear` and `Conv1D` outside the
    automatic skip list (integrations/bitsandbytes.py, quantizers/base.py get_keys_to_not_convert).
    `keeps_float32` marks `_keep_in_fp32_modules(_strict)`.
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    count: int
    quantizable: bool = False
    keeps_float32: bool = False

    @property
    def params_each(self) -> int:
        """Elements of one tensor."""
        return prod(self.shape)

    @property
    def params(self) -> int:
        """Elements of the whole group."""
        return self.params_each * self.count


Census = tuple[TensorGroup, ...]


def total_params(census: Iterable[TensorGroup]) -> int:
    """Parameters of the model, tied weights once."""
    return sum(group.params for group in census)
