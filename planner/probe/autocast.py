"""Make `torch.autocast("cpu")` keep CUDA's lists, so that a dry run casts where the card would.

The lists are dispatcher kernels (aten/src/ATen/autocast_mode.h): AT_FORALL_FP32 and AT_FORALL_FP32_SET_OPT_DTYPE.
The CPU's float32 list is shorter. Kernels for the missing operators are registered under AutocastCPU for a while.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

# AT_FORALL_FP32: operators CUDA autocast runs in float32 and the CPU leaves alone, as far as decoders use them.
_IN_FLOAT32 = (
    "exp", "expm1", "log", "log1p", "reciprocal", "rsqrt", "softplus", "layer_norm", "native_layer_norm", "group_norm",
    "pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "logsumexp", "l1_loss",
)  # fmt: skip
# AT_FORALL_FP32_SET_OPT_DTYPE: the same, said by the operator's own `dtype` argument unless the caller gave one.
_IN_FLOAT32_BY_DTYPE = ("softmax.int", "log_softmax.int", "cumsum", "sum", "sum.dim_IntList", "cumprod", "prod")

_HALVES = (torch.float16, torch.bfloat16)
_KEY = "AutocastCPU"


@contextmanager
def cuda_autocast_lists() -> Iterator[None]:
    """CUDA's float32 list inside `torch.autocast("cpu")`. Undone on exit."""
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "Overriding a previously registered kernel": that is the point
        for name in _IN_FLOAT32:
            library.impl(name, _casting(name), _KEY)
        for name in _IN_FLOAT32_BY_DTYPE:
            library.impl(name, _with_dtype(name), _KEY)
    try:
        yield
    finally:
        library._destroy()


def _casting(name: str) -> Callable[..., Any]:
    """`cached_cast(at::kFloat, ...)` on every half-precision argument, then the operator without autocast."""
    operator = _operator(name)

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)):
            return operator(*map(_float32, args), **{key: _float32(value) for key, value in kwargs.items()})

    return run


def _with_dtype(name: str) -> Callable[..., Any]:
    """`fp32_set_opt_dtype`: a half-precision input gets dtype=float32 unless the caller chose a dtype."""
    operator = _operator(name)

    def run(*args: Any, **kwargs: Any) -> Any:
        first = args[0]
        chosen = kwargs.get("dtype") or next((arg for arg in args if isinstance(arg, torch.dtype)), None)
        if first.dtype in _HALVES and chosen is None:
            args = tuple(arg for index, arg in enumerate(args) if arg is not None or index == 0)
            kwargs = {**kwargs, "dtype": torch.float32}
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)):
            return operator(*args, **kwargs)

    return run


def _operator(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in _HALVES else value
