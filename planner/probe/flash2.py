"""`flash_attention_2` without the `flash_attn` package: torch's own flash operators in its place on fake tensors.

Both are the same kernels from the same source: q, k, v, the output and a float32 log-sum-exp are saved, grouped K/V are
taken as they are, and backward takes the same temporaries. Everything around the kernel is transformers' own code, the
gathering of a padded batch's tokens included; the package scatters the result (flash_attn/bert_padding.py).
"""

from typing import Any

import torch
import transformers.integrations.flash_attention as hf_flash
from transformers import PreTrainedModel
from transformers.modeling_flash_attention_utils import _upad_input

from planner.probe.attention import Call, flash, padded_width
from planner.probe.patching import Patch


def flash_attention_2_stand_in() -> list[Patch]:
    """Patches that let a model load with `flash_attention_2` and run torch's operators."""
    return [
        Patch(PreTrainedModel, "_check_and_adjust_attn_implementation", _accept),
        Patch(hf_flash, "_flash_attention_forward", _attend),
    ]


def _accept(_model: Any, attn_implementation: str | None, *_: Any, **__: Any) -> str | None:
    """The check asks whether the package is installed, which is not the question here."""
    return attn_implementation


def _attend(  # noqa: PLR0913  # transformers' own signature
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None,
    *_: Any, dropout: float = 0.0, softmax_scale: float | None = None, is_causal: bool = True,
    target_dtype: torch.dtype | None = None, **__: Any,
) -> torch.Tensor:  # fmt: skip
    """transformers/modeling_flash_attention_utils.py, `_flash_attention_forward`. [batch, length, heads, width]."""
    if target_dtype is not None:
        query, key, value = (tensor.to(target_dtype) for tensor in (query, key, value))
    if attention_mask is not None:
        return _attend_without_padding(Call(query, key, value, attention_mask, dropout, is_causal, softmax_scale))
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    return flash(Call(query, key, value, None, dropout, is_causal, softmax_scale)).transpose(1, 2)


def _attend_without_padding(call: Call) -> torch.Tensor:
    """The same function, "Contains at least one padding token": gather, attend over one row of tokens, scatter."""
    batch, length, _, width = call.query.shape
    unpad: Any = _upad_input
    query, key, value, indices, starts, longest = unpad(*call[:4], length, None)
    scale = width**-0.5 if call.scale is None else call.scale
    attended: torch.Tensor = torch.ops.aten._flash_attention_forward(
        *map(padded_width, (query, key, value)), *starts, *longest, call.dropout, call.causal, False, scale=scale
    )[0][..., :width]
    put_back: Any = _Scattered.apply
    scattered: torch.Tensor = put_back(attended, indices, batch * length)
    return scattered.view(batch, length, *scattered.shape[1:])


class _Scattered(torch.autograd.Function):
    """flash_attn/bert_padding.py, `IndexPutFirstAxis`: rows put where `indices` say, zeros elsewhere."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, indices: torch.Tensor, rows: int) -> torch.Tensor:
        ctx.save_for_backward(indices)
        output = values.new_zeros((rows, *values.shape[1:]))
        output[indices] = values
        return output

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (indices,) = ctx.saved_tensors
        return grads[0][indices], None, None
