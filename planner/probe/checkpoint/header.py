"""The tensors that a checkpoint names: what safetensors writes into its header, and in which order.

Source: https://huggingface.co/docs/safetensors, "Format": eight bytes of length, a JSON object of name to dtype, shape
and offsets, then the data.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch.utils._python_dispatch import _disable_current_modes
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

# safetensors' names of dtypes, with the bits of one element.
_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip
_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a checkpoint. `dtype` is safetensors' name; `content` is None where the data is a hole."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: bytes | None = None

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of data in the file."""
        return self.elements * _BITS[self.dtype] // 8


def stored_tensors(skeleton: PreTrainedModel, dtype: torch.dtype) -> Mapping[str, torch.Tensor]:
    """What a checkpoint of `skeleton`, a model on the meta device, holds: named and shaped as on disk.

    Tied weights come once, experts as one tensor each; floating-point tensors in `dtype`.
    """
    tied = set(skeleton.all_tied_weights_keys or ())
    kept = {name: tensor for name, tensor in skeleton.state_dict().items() if name not in tied}
    with _disable_current_modes(), torch.no_grad():
        stored = revert_weight_conversion(skeleton, kept)
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in stored.items()}


def header_of(tensors: Mapping[str, torch.Tensor]) -> Iterator[StoredTensor]:
    """Tensors on the meta device, as safetensors names them."""
    for name, tensor in tensors.items():
        yield StoredTensor(name, _NAMES[tensor.dtype], tuple(tensor.shape))


def shards(tensors: Iterable[StoredTensor], most_bytes: int) -> list[list[StoredTensor]]:
    """Files of at most `most_bytes` each, filled in order; a larger tensor has a file of its own."""
    files: list[list[StoredTensor]] = [[]]
    room_bytes = most_bytes
    for tensor in tensors:
        if files[-1] and tensor.size_bytes > room_bytes:
            files.append([])
            room_bytes = most_bytes
        files[-1].append(tensor)
        room_bytes -= tensor.size_bytes
    return files
