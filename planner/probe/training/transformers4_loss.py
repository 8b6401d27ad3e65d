"""The causal language modelling loss as transformers 4 had it, for runs measured with it.

It kept one more float32 copy of the logits than 5.x: 14 bytes for each logit at the peak instead of 12.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from transformers.loss import loss_utils

_CAUSAL = "ForCausalLM"


@contextmanager
def loss_of_transformers_4() -> Iterator[None]:
    """Models inside compute their loss as 4.48 does. Undone on exit."""
    installed = loss_utils.LOSS_MAPPING[_CAUSAL]
    loss_utils.LOSS_MAPPING[_CAUSAL] = _causal_loss
    try:
        yield
    finally:
        loss_utils.LOSS_MAPPING[_CAUSAL] = installed


def _causal_loss(
    logits: torch.Tensor, labels: torch.Tensor, vocab_size: int, num_items_in_batch: Any = None, **_: Any
) -> torch.Tensor:
    """transformers 4.48, loss/loss_utils.py: it shifts the logits, which copies them; 5.x shifts the labels."""
    logits = logits.float()  # this name stays bound to the end, and with it the unshifted copy
    shifted = logits[..., :-1, :].contiguous()
    targets = labels[..., 1:].contiguous().view(-1)
    reduction = "mean" if num_items_in_batch is None else "sum"
    loss = functional.cross_entropy(shifted.view(-1, vocab_size), targets, reduction=reduction)
    return loss if num_items_in_batch is None else loss / num_items_in_batch
