"""The optimizers a request can name, built as the Trainer builds them (transformers/trainer_optimizer.py)."""

from collections.abc import Callable
from typing import Any

import torch
from bitsandbytes.optim.adamw import AdamW as BnbAdamW
from bitsandbytes.optim.optimizer import GlobalOptimManager
from transformers.optimization import Adafactor

from planner.recipe import Recipe

_EIGHT_BIT = frozenset({"adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit"})
# Its value moves no bytes. Large enough that Adam's first update shows in a bfloat16 of magnitude one (spacing 2^-7).
LEARNING_RATE = 1e-2


def build_optimizer(recipe: Recipe, model: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimizer that the recipe names, over the trainable parameters.

    The Trainer tells bitsandbytes to keep the 8-bit optimizers' state of embeddings in 32 bit (transformers/trainer.py,
    create_optimizer). bitsandbytes has one manager for all of a process, so it begins anew for each optimizer.
    """
    manager: Any = GlobalOptimManager.get_instance()
    manager.initialize()
    name = recipe.training.optim
    if recipe.by_trainer and name in _EIGHT_BIT:
        embeddings = [part for part in model.modules() if isinstance(part, torch.nn.Embedding)]
        manager.override_config([part.weight for part in embeddings], "optim_bits", 32)
    return _BUILDERS[name]([parameter for parameter in model.parameters() if parameter.requires_grad])


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
