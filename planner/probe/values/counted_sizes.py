"""Operators whose result's size is itself a value that a kernel counts: nonzero and the family of unique."""

from threading import local
from typing import Any

import torch

from .float_predicates import item
from .host import WHOLE, host, is_true
from .kernels import Kernel, Original

_next = local()


def nonzero(op: torch._ops.OpOverload, original: Original) -> Kernel:
    """Positions that are not zero; every float is. Boolean indexing and masked_select go through it.

    The card's kernel allocates its count first and reads it back. A block of the same size, written and given back
    just before, is the block that the allocator hands it, so that its own requests follow with the true size.
    """

    def kernel(tensor: torch.Tensor, **kwargs: Any) -> Any:
        tensor = tensor.contiguous()
        whole = tensor.dtype in WHOLE
        truth = (host(tensor) if whole else torch.ones(tensor.shape, dtype=torch.bool, device="cpu")).nonzero()
        _leave_count(tensor, truth.shape[0])
        result = original(tensor, **kwargs)
        if result.shape != truth.shape:
            raise RuntimeError(f"{op} counted {result.shape[0]} on a virtual card where {truth.shape[0]} are not zero")
        host(result).copy_(truth)
        return result

    return kernel


def _leave_count(tensor: torch.Tensor, count: int) -> None:
    if tensor.numel():
        host(torch.empty(4, dtype=torch.uint8, device=tensor.device).view(torch.int32)).fill_(count)


def told_item(op: torch._ops.OpOverload, original: Original) -> Kernel:
    """`.item()`, with the answer that `unique` left for its own kernel's question."""
    plain = item(op, original)

    def kernel(tensor: torch.Tensor) -> Any:
        value = plain(tensor)
        told = getattr(_next, "count", None)
        if told is None or tensor.dtype is not torch.int64:
            return value
        _next.count = None
        return told

    return kernel


def unique(op: torch._ops.OpOverload, original: Original) -> Kernel:
    """`unique` of whole numbers is computed; floats are all different. Its kernel asks an int64 for the count."""

    def kernel(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if tensor.is_floating_point():
            source = torch.arange(tensor.numel(), device="cpu").view(tensor.shape)
        elif tensor.dtype is torch.bool or not is_true(tensor):
            return _without_kernel(op, tensor, args, kwargs)
        else:
            source = host(tensor)
        truth = op(source, *args, **kwargs)
        _next.count = truth[0].shape[0]
        try:
            results = original(tensor, *args, **kwargs)
        finally:
            _next.count = None
        for result, true in zip(results, truth, strict=True):
            if result.shape != true.shape:
                return _without_kernel(op, tensor, args, kwargs)
            if result.dtype in WHOLE:
                host(result).copy_(true)
        return results

    return kernel


def unique_elsewhere(op: torch._ops.OpOverload, _original: Original) -> Kernel:
    """unique_consecutive, unique_dim, unique of booleans: their kernels count where no rule reaches.

    Only the results are requested, not the kernel's temporaries: no training step takes these roads.
    """

    def kernel(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return _without_kernel(op, tensor, args, kwargs)

    return kernel


def _without_kernel(op: Any, tensor: torch.Tensor, args: Any, kwargs: dict[str, Any]) -> Any:
    if tensor.is_floating_point():
        source = torch.arange(tensor.numel(), device="cpu").view(tensor.shape)
    else:
        source = host(tensor)
    return tuple(_to_card(true, tensor, as_input=not place) for place, true in enumerate(op(source, *args, **kwargs)))


def _to_card(true: torch.Tensor, like: torch.Tensor, *, as_input: bool) -> torch.Tensor:
    result = torch.empty(true.shape, dtype=like.dtype if as_input else true.dtype, device=like.device)
    if result.dtype in WHOLE:
        host(result).copy_(true)
    return result


def triangle(op: torch._ops.OpOverload, _original: Original) -> Kernel:
    """tril_indices and triu_indices, which take no tensor: one request of the size that torch makes."""

    def kernel(*args: Any, device: torch.device, pin_memory: bool | None = None, **kwargs: Any) -> torch.Tensor:
        truth = op(*args, device=torch.device("cpu"), pin_memory=pin_memory, **kwargs)
        result = torch.empty(truth.shape, dtype=truth.dtype, device=device)
        host(result).copy_(truth)
        return result

    return kernel


def histogram(_op: torch._ops.OpOverload, original: Original) -> Kernel:
    """`histc` of whole numbers (experts' token counts): the CPU has it for floats only, which hold them exactly."""

    def kernel(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        result = original(tensor, *args, **kwargs)
        if is_true(tensor) and is_true(result):
            host(result).copy_(host(tensor).double().histc(*args, **{k: v for k, v in kwargs.items() if k != "out"}))
        return result

    return kernel
