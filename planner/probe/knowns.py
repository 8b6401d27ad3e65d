"""Answers to what fake tensors cannot know: how many labels a micro-batch trains on, how many columns are outliers.

TRL's fused head selects the hidden states of labelled positions, Liger asks for their number; the recipe determines
both. LLM.int8 sets activation columns with a value above its threshold apart; with made-up weights there are none.
"""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from planner.probe.batch import kept_tokens
from planner.recipe import Recipe

_aten = torch.ops.aten


class KnownValues(TorchDispatchMode):
    """Enter it above the fake mode and below the meter."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        kept = kept_tokens(recipe)
        self._labels = sum(kept)
        self._shifted = sum(tokens - 1 for tokens in kept)
        self._mask_shape = (recipe.batch, recipe.length - 1)
        self._liger = recipe.loss == "liger"
        self._flash2 = recipe.training.attn_implementation == "flash_attention_2"
        self._padded = recipe.training.padded

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is _aten.index.Tensor and self._is_label_mask(args[1][0]):
            return args[0].new_empty((self._shifted, *args[0].shape[2:]))
        if func is _aten.masked_select.default and self._is_label_mask(args[1]):
            return args[0].new_empty((self._shifted,))
        if func is _aten._local_scalar_dense.default:
            if self._flash2 and args[0].dtype is torch.bool:
                return not self._padded  # "is all of the mask true?", transformers/masking_utils.py
            if self._liger:
                return self._labels
        if self._liger and func is _aten.equal.default:
            return False  # "is the incoming gradient one?": it is one over the number of items
        if func is torch.ops.bitsandbytes.int8_vectorwise_quant.default and len(args) > 1 and args[1] > 0:
            quantized, scales, _ = func(args[0], 0.0)
            return quantized, scales, args[0].new_empty(0, dtype=torch.int64)
        if func is torch.ops.bitsandbytes.int8_mixed_scaled_mm.default:
            activations, quantized, weight = args[:3]
            return activations.new_empty((*quantized.shape[:-1], weight.shape[0])), activations.new_empty(0)
        return func(*args, **(kwargs or {}))

    def _is_label_mask(self, mask: Any) -> bool:
        return mask is not None and mask.dtype is torch.bool and tuple(mask.shape) == self._mask_shape
