"""What CUDA kernels allocate for themselves and free before they return, by operator name.

A dispatch mode sees what an operator returns, not what its kernel asks the allocator for meanwhile. Each entry
names the line of the kernel's source that allocates.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from planner.memory.runtime import workspace_bytes
from planner.memory.workspace import embedding_indices, embedding_partial_rows
from planner.probe.fused4bit import uses_fused_kernel
from planner.probe.meters.live import Temporary
from planner.probe.target import Target
from planner.units import ceil_div

_FLOAT_BYTES = 4
# bitsandbytes/_ops.py: gemm_4bit(A, B, shapeB, absmax, blocksize, quant_type, bias, absmax_8bit, ...).
_GEMM_ABSMAX_8BIT = 7


def temporaries_of(target: Target) -> Mapping[str, Temporary]:
    """The temporaries of `target`'s kernels; none for the CPU, whose kernels allocate outside the counted device."""
    if not target.is_cuda:
        return {}
    return {
        "bitsandbytes.gemm_4bit.default": functools.partial(_gemm_4bit, target),
        "bitsandbytes.int8_vectorwise_quant.default": _int8_quantize,
        "bitsandbytes.int8_mixed_scaled_mm.default": _int8_product,
        "aten.embedding_dense_backward.default": _embedding_backward,
        "aten._softmax_backward_data.default": _softmax_backward,
        "aten._scaled_dot_product_flash_attention_backward.default": _flash_backward,
        "aten._flash_attention_backward.default": _flash_rows_backward,
        "aten._scaled_dot_product_efficient_attention_backward.default": _efficient_backward,
    }


def workspaces_of(target: Target) -> Mapping[str, int]:
    """What cuBLAS takes from torch's allocator and keeps, by the phase that first multiplies matrices.

    One per handle and stream, and handles are per thread (aten/src/ATen/cuda/CublasHandlePool.cpp): the first product
    forward takes one, autograd's thread takes the other.
    """
    if target.capability is None:
        return {}
    size_bytes = workspace_bytes(target.capability)
    return {"first_forward": size_bytes, "first_backward": size_bytes}


def _gemm_4bit(target: Target, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[int]:
    """bitsandbytes/backends/cuda/ops.py, `_dequant_linear_fallback`: absmax_dq, absmax_dq + offset, B_dq.

    None where the fused kernel is chosen. N x K is the weight, M the tokens.
    """
    activations, shape, block = args[0], args[2], args[4]
    n, k = shape
    m = activations.numel() // k
    if k % block == 0 and uses_fused_kernel(target, activations.dtype, m, n, k):
        return ()
    weight_bytes = n * k * activations.element_size()
    # A dispatch mode sees arguments in the schema's order, whether they were named in the call or not.
    absmax_8bit = kwargs.get("absmax_8bit", args[_GEMM_ABSMAX_8BIT] if len(args) > _GEMM_ABSMAX_8BIT else None)
    if absmax_8bit is None:
        return (weight_bytes,)
    absmax_bytes = ceil_div(n * k, block) * _FLOAT_BYTES
    return (absmax_bytes, absmax_bytes, weight_bytes)


def _int8_quantize(args: Sequence[Any], _: Mapping[str, Any]) -> Sequence[int]:
    """bitsandbytes/backends/cuda/ops.py, int8_vectorwise_quant: `A.abs() >= threshold`, both sides alive."""
    activations = args[0]
    if len(args) < 2 or args[1] == 0:
        return ()
    return (activations.numel() * activations.element_size(), activations.numel())


def _int8_product(args: Sequence[Any], _: Mapping[str, Any]) -> Sequence[int]:
    """The same file, int8_linear_matmul and int8_mm_dequant: an int32 product, then a float16 one before the cast."""
    activations, weight = args[0], args[2]
    outputs = activations.numel() // activations.shape[-1] * weight.shape[0]
    if activations.dtype is torch.float16:
        return (outputs * 4,)
    return (outputs * 4, outputs * 2)


def _embedding_backward(args: Sequence[Any], _: Mapping[str, Any]) -> Sequence[int]:
    """aten/src/ATen/native/cuda/EmbeddingBackwardKernel.cu, embedding_backward_cuda_kernel: sums in float32."""
    grad, tokens, words = args[0], args[1].numel(), args[2]
    rows = embedding_partial_rows(tokens, words)
    return (8 * embedding_indices(tokens, words), 4 * rows * grad.shape[-1]) if rows else ()


def _softmax_backward(args: Sequence[Any], _: Mapping[str, Any]) -> Sequence[int]:
    """aten/src/ATen/native/cuda/SoftMax.cu, softmax_backward_cuda_out: `Tensor tmp = grad * output`.

    log_softmax has no such temporary.
    """
    grad: torch.Tensor = args[0]
    return (grad.numel() * grad.element_size(),)


def _flash_backward(args: Sequence[Any], _: Mapping[str, Any]) -> Sequence[int]:
    """aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp, mha_bwd.

    dq_accum in float32 with rows padded to 128 and the head to 32 (64 above 128), softmax_d in float32, and with
    grouped K/V the expanded dk and dv.
    """
    _grad, query, key = args[0], args[1], args[2]
    batch, heads, length, width = query.shape
    rows, columns = ceil_div(length, 128) * 128, _padded_columns(width)
    sizes = [batch * rows * heads * columns * _FLOAT_BYTES, batch * heads * rows * _FLOAT_BYTES]
    if key.shape[1] != heads:
        sizes += [batch * key.shape[2] * heads * width * query.element_size()] * 2
    return sizes


def _flash_rows_backward(args: Sequence[Any], _: Mapping[str, Any]) -> Sequence[int]:
    """The same file, mha_varlen_bwd: all sequences in one row of tokens, with 128 rows more for each of them."""
    query, key, starts = args[1], args[2], args[6]
    tokens, heads, width = query.shape
    rows = tokens + 128 * (starts.numel() - 1)
    sizes = [rows * heads * _padded_columns(width) * _FLOAT_BYTES, heads * rows * _FLOAT_BYTES]
    if key.shape[1] != heads:
        sizes += [key.shape[0] * heads * width * query.element_size()] * 2
    return sizes


def _padded_columns(width: int) -> int:
    """flash_api.cpp, head_size_rounded: to 32 columns, to 64 above 128."""
    step = 32 if width <= 128 else 64
    return ceil_div(width, step) * step


def _efficient_backward(args: Sequence[Any], _: Mapping[str, Any]) -> Sequence[int]:
    """aten/src/ATen/native/transformers/cuda/attention_backward.cu, _efficient_attention_backward.

    delta in float32 with rows padded to 16; in 16 bit also the float32 accumulator of dq (kNeedsAccumGradQ), padded
    to the 64 x 64 blocks it is written in.
    """
    query = args[1]
    batch, heads, length, width = query.shape
    sizes = [batch * heads * ceil_div(length, 16) * 16 * _FLOAT_BYTES]
    if query.element_size() == 2:
        sizes.append(batch * heads * ceil_div(length, 64) * 64 * ceil_div(width, 64) * 64 * _FLOAT_BYTES)
    return sizes
