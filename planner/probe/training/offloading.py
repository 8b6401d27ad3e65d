"""Activations that wait on the host between forward and backward, by TRL's own context."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from planner.request.recipe import Recipe


def offloading(recipe: Recipe, model: torch.nn.Module) -> AbstractContextManager[Any]:
    """What trl 1.16 SFTTrainer.training_step is run in (maybe_activation_offload_context)."""
    if not recipe.training.activation_offloading:
        return nullcontext()
    from trl.models.activation_offloading import get_act_offloading_ctx_manager  # noqa: PLC0415  # only where it is used

    # A reward model has no head of words; the warning is written by a logger that wants accelerate's state.
    context: AbstractContextManager[Any] = get_act_offloading_ctx_manager(model, warn_if_no_head=False)
    return context
