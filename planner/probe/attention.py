"""Which attention kernel a card would run, and that kernel's operator on fake tensors.

Rules: torch 2.13, aten/src/ATen/native/transformers/cuda/sdp_utils.cpp, and the preparation of arguments in
aten/src/ATen/native/transformers/attention.cpp. Tensors are [batch, heads, length, width].
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch.nn import functional

from planner.probe.target import Target

Kernel = Literal["flash", "mem_efficient", "math", "cudnn"]
Attention = Callable[..., torch.Tensor]

_HALVES = (torch.float16, torch.bfloat16)
_FLASH_WIDEST = 256
_FLASH_ALIGNMENT = 8
_MASK_ALIGNMENT = 16


class Call(NamedTuple):
    """One call of attention, as far as it decides bytes. `grouped`: the caller means there to be fewer key heads."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None = None
    dropout: float = 0.0
    causal: bool = False
    scale: float | None = None
    grouped: bool = False


def scaled_dot_product_as_on(target: Target, pinned: str) -> Attention:
    """A stand-in for `functional.scaled_dot_product_attention` that runs the operator `target` would."""

    def attend(  # noqa: PLR0913, PLR0917  # torch's own signature
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        query, key, value = (_autocast(tensor) for tensor in (query, key, value))
        if attn_mask is not None and attn_mask.dtype is torch.bool:
            attn_mask = _additive(attn_mask, query.dtype)
        if pinned == "mem_efficient" and key.shape[1] != query.shape[1]:
            # This kernel takes no grouped heads, so a harness that pins it expands them (transformers, repeat_kv).
            groups = query.shape[1] // key.shape[1]
            key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
        grouped = enable_gqa and key.shape[1] != query.shape[1]
        call = Call(query, key, value, attn_mask, dropout_p, is_causal, scale, grouped)
        return _RUN[choose_kernel(target, pinned, call)](call)

    return attend


def choose_kernel(target: Target, pinned: str, call: Call) -> Kernel:
    """The first kernel of torch's order of preference that takes these tensors.

    On compute capability 9 and 10 torch prefers cuDNN's where that is newer than 9.15.0, as in the wheels for CUDA 13
    (check_prefer_cudnn_attention). It saves what flash saves, and with a mask, which it takes, what mem-efficient
    saves; these stand for it, because its backward workspace is not known.
    """
    allowed = ("flash", "mem_efficient") if pinned == "auto" else (pinned,)
    masked = call.mask is not None
    if "cudnn" in allowed:
        return "mem_efficient" if masked else "cudnn"
    if "flash" in allowed and not masked and _flash_takes(target, call):
        return "flash"
    if "mem_efficient" in allowed and not call.grouped and _mem_efficient_takes(target, call):
        return "mem_efficient"
    return "math"


def _flash_takes(target: Target, call: Call) -> bool:
    """check_sm_version (8.0 and up), dtype, equal widths to 256; on the small 8.x and 12.x no training at some widths.

    check_requires_grad_and_head_dim_gt192_constraints_on_sm86_89_or_120: none in (192, 224], none above with dropout.
    """
    capability, width = target.capability or (0, 0), call.query.shape[-1]
    if capability < (8, 0) or call.query.dtype not in _HALVES:
        return False
    if width != call.value.shape[-1] or width > _FLASH_WIDEST:
        return False
    small = (8, 6) <= capability <= (8, 9) or (12, 0) <= capability <= (12, 1)
    return not (small and width > 192 and (width <= 224 or call.dropout > 0))


def _mem_efficient_takes(target: Target, call: Call) -> bool:
    """check_tensor_dtype: bfloat16 only from compute capability 8.0. Grouped heads are never taken in 2.13."""
    return call.query.dtype is not torch.bfloat16 or (target.capability or (0, 0)) >= (8, 0)


def _autocast(tensor: torch.Tensor) -> torch.Tensor:
    """scaled_dot_product_attention is on autocast's lower-precision list on both devices."""
    if torch.is_autocast_enabled("cpu") and tensor.dtype is torch.float32:
        return tensor.to(torch.get_autocast_dtype("cpu"))
    return tensor


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """attention.cpp, convert_boolean_attn_mask_: zeros_like, then minus infinity where the mask is false."""
    additive = torch.zeros_like(mask, dtype=dtype)
    return additive.masked_fill_(mask.logical_not(), float("-inf"))


def flash(call: Call) -> torch.Tensor:
    """attention.cpp pads the head width to a multiple of 8 and slices the result."""
    width = call.query.shape[-1]
    scale = width**-0.5 if call.scale is None else call.scale
    attended: torch.Tensor = torch.ops.aten._scaled_dot_product_flash_attention(
        *map(padded_width, call[:3]), call.dropout, call.causal, False, scale=scale
    )[0]
    return attended[..., :width] if width % _FLASH_ALIGNMENT else attended


def padded_width(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` with its head width padded to a multiple of 8; itself where nothing is to be done."""
    missing = -tensor.shape[-1] % _FLASH_ALIGNMENT
    return functional.pad(tensor, (0, missing)) if missing else tensor


def _mem_efficient(call: Call) -> torch.Tensor:
    """attention.cpp, preprocess_mask: rows of the mask padded to 16 elements, then expanded without copying."""
    mask = call.mask
    if mask is not None:
        columns = mask.shape[-1]
        if columns % _MASK_ALIGNMENT:
            mask = functional.pad(mask, (0, -columns % _MASK_ALIGNMENT))[..., :columns]
        batch, heads, length, _ = call.query.shape
        mask = mask.expand(batch, heads, length, call.key.shape[2])
    log_sum_exp = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in call[:3])
    attended: torch.Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(
        *call[:3], mask, log_sum_exp, call.dropout, call.causal, scale=call.scale
    )[0]
    return attended


def _math(call: Call) -> torch.Tensor:
    # Autocast casts the arguments of scaled_dot_product_attention and then stays out of it (autocast_mode.h,
    # WrapFunction_, ExcludeDispatchKeyGuard): the products inside keep the float32 that the kernel chose.
    with torch.autocast("cpu", enabled=False):
        attended: torch.Tensor = torch._scaled_dot_product_attention_math(
            *call[:4], call.dropout, call.causal, None, scale=call.scale, enable_gqa=call.grouped
        )[0]
    return attended


_RUN: dict[Kernel, Callable[[Call], torch.Tensor]] = {
    "flash": flash,
    "cudnn": flash,
    "mem_efficient": _mem_efficient,
    "math": _math,
}
