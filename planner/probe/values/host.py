"""A virtual card's memory is host memory: the same bytes as a CPU tensor, and which tensors are worth it."""

from collections.abc import Callable
from typing import Any

import torch

WHOLE = frozenset(
    getattr(torch, name) for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")
)
# Masks and ids of a training step take a few MiB and a router's one-hot tensor tens; beyond this the copies on the host
# would cost a run's time and resident memory, and only kernels, which do nothing, read tensors so large.
LIMIT_BYTES = 128 * 2**20
# Quantized weights are int8 or uint8 (bitsandbytes keeps int8 rows and packs two 4-bit codes into a byte): opaque codes
# that only kernels read. Byte-sized masks, scales' block sizes and flags are smaller than the smallest quantized layer
# of a real model (1,024 x 1,024 at 4 bits is 512 KiB).
OPAQUE = frozenset({torch.int8, torch.uint8})
OPAQUE_LIMIT_BYTES = 256 * 2**10


def is_true(tensor: torch.Tensor) -> bool:
    """Whether the rules keep this tensor's contents true: a whole number or boolean of bounded size."""
    dtype = tensor.dtype
    if dtype not in WHOLE:
        return False
    return tensor.numel() * dtype.itemsize <= (OPAQUE_LIMIT_BYTES if dtype in OPAQUE else LIMIT_BYTES)


def host(tensor: torch.Tensor) -> torch.Tensor:
    """A CPU tensor over the same bytes, shape, strides and offset; it must not outlive `tensor`.

    A tensor that is on the CPU already is returned as it is.
    """
    if not tensor.is_cuda:
        return tensor
    storage = tensor.untyped_storage()
    cpu = torch.device("cpu")
    if storage.nbytes() == 0:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=cpu)
    same_bytes = torch._C._construct_storage_from_data_pointer(storage.data_ptr(), cpu, storage.nbytes())
    empty = torch.empty(0, dtype=tensor.dtype, device=cpu)
    return empty.set_(same_bytes, tensor.storage_offset(), tensor.shape, tensor.stride())


class one_thread:  # noqa: N801 - used as a function is
    """Compute on this thread alone: masks are small, and waking OpenMP's team for one costs 50 times the work."""

    def __enter__(self) -> None:
        self.threads = torch.get_num_threads()
        if self.threads > 1:
            torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        if self.threads > 1:
            torch.set_num_threads(self.threads)


def each(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """`value` with `change` applied to its tensors, as deep as operators nest them (lists of tensors)."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return (
            type(value)(each(item, change) for item in value)
            if type(value) in (list, tuple)
            else [each(item, change) for item in value]
        )
    return value


def tensors(value: Any) -> list[torch.Tensor]:
    """The tensors in an operator's argument or result."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors(item)]
    return []
