"""`flash_attention_2` without the `flash_attn` package: torch's own flash operator in its place on fake tensors.

Both are the same kernels from the same source: q, k, v, the output and a float32 log-sum-exp are saved, grouped K/V are
taken as they are, and backward takes the same temporaries. Everything around the kernel is transformers' own code.
"""

from typing import Any

import torch
import transformers.integrations.flash_attention as hf_flash
from transformers import PreTrainedModel

from planner.errors import FieldProblem, InvalidRequestError
from planner.probe.patching import Patch


def flash_attention_2_stand_in() -> list[Patch]:
    """Patches that let a model load with `flash_attention_2` and run torch's operator."""
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
    """transformers/modeling_flash_attention_utils.py, `_flash_attention_forward`, for a batch without padding.

    Tensors are [batch, length, heads, width].

    Raises:
        InvalidRequestError: a padded batch, which is packed by kernels of the package.
    """
    if attention_mask is not None:
        fix = "flash_attention_2 unpads with the flash_attn package; use --on cuda, or padded: false"
        problem = FieldProblem("training.padded", fix)
        raise InvalidRequestError("This attention cannot be dry-run on a padded batch.", [problem])
    if target_dtype is not None:
        query, key, value = (tensor.to(target_dtype) for tensor in (query, key, value))
    scale = query.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale
    heads_first = [tensor.transpose(1, 2) for tensor in (query, key, value)]
    attended: torch.Tensor = torch.ops.aten._scaled_dot_product_flash_attention(
        *heads_first, dropout, is_causal, False, scale=scale
    )[0]
    return attended.transpose(1, 2)
