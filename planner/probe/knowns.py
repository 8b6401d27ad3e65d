"""Answers to what fake tensors cannot know: how many labels a micro-batch trains on, how many columns are outliers.

TRL's fused head selects the hidden states of labelled positions, Liger asks for their number; the recipe determines
both. LLM.int8 sets activation columns with a value above its threshold apart; with made-up weights there are none.
"""

from collections.abc import Callable
from typing import Any

import bitsandbytes  # noqa: F401  # registers its operators
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from planner.recipe import Recipe

_aten = torch.ops.aten
_bnb = torch.ops.bitsandbytes


class KnownValues(TorchDispatchMode):
    """Enter it above the fake mode and below the meter."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        kept = recipe.kept_tokens
        self._labels = sum(kept)
        self._longest = max(kept)
        self._shifted = sum(tokens - 1 for tokens in kept)
        self._mask_shape = (recipe.batch, recipe.length - 1)
        self._liger = recipe.loss == "liger"
        self._flash2 = recipe.training.attn_implementation == "flash_attention_2"
        self._padded = recipe.training.padded
        self._known: dict[Any, Callable[[tuple[Any, ...]], Any]] = {
            _aten.index.Tensor: self._index,
            _aten.masked_select.default: self._masked_select,
            _aten.nonzero.default: self._nonzero,
            _aten._local_scalar_dense.default: self._item,
            _aten.equal.default: self._equal,
            _aten.addmm.dtype_out: self._accumulate,
            _bnb.int8_vectorwise_quant.default: self._quantize,
            _bnb.int8_mixed_scaled_mm.default: self._multiply,
        }

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nothing is compiled here, and the wrapper that keeps the compiler out runs at every operator."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        known = self._known.get(func)
        answer = known(args) if known else NotImplemented
        return func(*args, **(kwargs or {})) if answer is NotImplemented else answer

    def _index(self, args: tuple[Any, ...]) -> Any:
        """`hidden_states[mask]`, trl/trainer/utils.py."""
        if not self._is_label_mask(args[1][0]):
            return NotImplemented
        return args[0].new_empty((self._shifted, *args[0].shape[2:]))

    def _nonzero(self, args: tuple[Any, ...]) -> Any:
        """Where the mask of a padded batch keeps a token, `_get_unpad_data` as well."""
        return args[0].new_empty((self._labels, 1), dtype=torch.int64) if self._flash2 else NotImplemented

    def _masked_select(self, args: tuple[Any, ...]) -> Any:
        """The backward of TRL's `masked_scatter`."""
        return args[0].new_empty((self._shifted,)) if self._is_label_mask(args[1]) else NotImplemented

    def _item(self, args: tuple[Any, ...]) -> Any:
        """A yes or no: "is all of the mask true?", asked for flash_attention_2 and by linear-attention layers.

        Source: transformers/masking_utils.py, flash_attention_mask and create_recurrent_attention_mask. A number: "how
        many labels?" (Liger's loss), "how long is the longest sequence?" (modeling_flash_attention_utils.py,
        `_get_unpad_data`).
        """
        if args[0].dtype is torch.bool:
            return not self._padded
        if self._flash2 and args[0].dtype is torch.int32:
            return self._longest
        return self._labels if self._liger else NotImplemented

    def _equal(self, _: tuple[Any, ...]) -> Any:
        """Liger: "is the incoming gradient one?"; it is one over the number of items."""
        return False if self._liger else NotImplemented

    def _accumulate(self, args: tuple[Any, ...]) -> Any:
        """Liger: `addmm(grad, a, b, out_dtype=float32, out=grad)`, for CUDA alone and so without a shape function."""
        return args[0]

    def _quantize(self, args: tuple[Any, ...]) -> Any:
        if len(args) < 2 or args[1] == 0:
            return NotImplemented
        quantized, scales, _ = _bnb.int8_vectorwise_quant.default(args[0], 0.0)
        return quantized, scales, args[0].new_empty(0, dtype=torch.int64)

    def _multiply(self, args: tuple[Any, ...]) -> Any:
        activations, quantized, weight = args[:3]
        return activations.new_empty((*quantized.shape[:-1], weight.shape[0])), activations.new_empty(0)

    def _is_label_mask(self, mask: Any) -> bool:
        return mask is not None and mask.dtype is torch.bool and tuple(mask.shape) == self._mask_shape
