"""The optimizers a request can name, built as the Trainer builds them (transformers/trainer_optimizer.py)."""

from collections.abc import Callable
from typing import Any

import torch
from bitsandbytes.optim.adamw import AdamW
from bitsandbytes.optim.ademamix import AdEMAMix
from bitsandbytes.optim.lion import Lion
from bitsandbytes.optim.optimizer import GlobalOptimManager
from bitsandbytes.optim.rmsprop import RMSprop
from transformers.optimization import Adafactor

from planner.probe.training.low_rank import PACKAGES, low_rank_optimizer
from planner.probe.training.muon import Muon
from planner.request.optimizer_names import KEPT
from planner.request.recipe import Recipe

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
    if name in PACKAGES:
        return low_rank_optimizer(recipe, model, LEARNING_RATE)
    if name == "muon":
        return Muon(((each, part) for each, part in model.named_parameters() if part.requires_grad), LEARNING_RATE)
    if recipe.by_trainer and KEPT[name].in_8bit_by_bitsandbytes:
        embeddings = [part for part in model.modules() if isinstance(part, torch.nn.Embedding)]
        manager.override_config([part.weight for part in embeddings], "optim_bits", 32)
    return BUILDERS[name]([parameter for parameter in model.parameters() if parameter.requires_grad])


def is_built(optim: str) -> bool:
    """Whether the probe's own packages have the optimizer."""
    return optim in BUILDERS or optim == "muon"


def _bitsandbytes(kind: Callable[..., Any], bits: int, paged: bool = False) -> Callable[[Any], torch.optim.Optimizer]:
    def build(parameters: Any) -> torch.optim.Optimizer:
        more = {"is_paged": True} if paged else {}
        optimizer: torch.optim.Optimizer = kind(parameters, lr=LEARNING_RATE, optim_bits=bits, **more)
        return optimizer

    return build


def _adafactor(parameters: Any) -> torch.optim.Optimizer:
    return Adafactor(parameters, lr=LEARNING_RATE, scale_parameter=False, relative_step=False)


BUILDERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw_torch": lambda parameters: torch.optim.AdamW(parameters, lr=LEARNING_RATE),
    "adamw_torch_fused": lambda parameters: torch.optim.AdamW(parameters, lr=LEARNING_RATE, fused=True),
    "adamw_8bit": _bitsandbytes(AdamW, 8),
    "adamw_bnb_8bit": _bitsandbytes(AdamW, 8),
    "paged_adamw_8bit": _bitsandbytes(AdamW, 8, paged=True),
    "paged_adamw_32bit": _bitsandbytes(AdamW, 32, paged=True),
    "ademamix": _bitsandbytes(AdEMAMix, 32),
    "ademamix_8bit": _bitsandbytes(AdEMAMix, 8),
    "paged_ademamix_32bit": _bitsandbytes(AdEMAMix, 32, paged=True),
    "paged_ademamix_8bit": _bitsandbytes(AdEMAMix, 8, paged=True),
    "lion_32bit": _bitsandbytes(Lion, 32),
    "lion_8bit": _bitsandbytes(Lion, 8),
    "paged_lion_32bit": _bitsandbytes(Lion, 32, paged=True),
    "paged_lion_8bit": _bitsandbytes(Lion, 8, paged=True),
    "rmsprop_bnb": _bitsandbytes(RMSprop, 32),
    "rmsprop_bnb_8bit": _bitsandbytes(RMSprop, 8),
    "rmsprop_bnb_32bit": _bitsandbytes(RMSprop, 32),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=LEARNING_RATE),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=LEARNING_RATE),
    "adafactor": _adafactor,
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=LEARNING_RATE),
}
