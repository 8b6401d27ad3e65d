"""The optimizers a request can name, built as the Trainer builds them (transformers/trainer_optimizer.py)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from bitsandbytes.optim.adamw import AdamW as BnbAdamW
from transformers.optimization import Adafactor

Parameters = Iterable[torch.nn.Parameter]

# Its value moves no bytes. Large enough that Adam's first update shows in a bfloat16 of magnitude one (spacing 2^-7).
LEARNING_RATE = 1e-2


def build_optimizer(name: str, parameters: Parameters) -> torch.optim.Optimizer:
    """The optimizer `optim=name` stands for, over the trainable parameters."""
    return _BUILDERS[name](list(parameters))


def _bitsandbytes(bits: int, paged: bool) -> Callable[[Any], torch.optim.Optimizer]:
    def build(parameters: Any) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = BnbAdamW(parameters, lr=LEARNING_RATE, optim_bits=bits, is_paged=paged)
        return optimizer

    return build


def _adafactor(parameters: Any) -> torch.optim.Optimizer:
    return Adafactor(parameters, lr=LEARNING_RATE, scale_parameter=False, relative_step=False)


_BUILDERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw_torch": lambda parameters: torch.optim.AdamW(parameters, lr=LEARNING_RATE),
    "adamw_torch_fused": lambda parameters: torch.optim.AdamW(parameters, lr=LEARNING_RATE, fused=True),
    "adamw_8bit": _bitsandbytes(8, paged=False),
    "adamw_bnb_8bit": _bitsandbytes(8, paged=False),
    "paged_adamw_8bit": _bitsandbytes(8, paged=True),
    "paged_adamw_32bit": _bitsandbytes(32, paged=True),
    "adafactor": _adafactor,
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=LEARNING_RATE),
}
