"""How a step's gradients come about and are applied: by torch's optimizer, or by DeepSpeed's engine."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from planner.probe.training.loss_scaling import grad_scaler
from planner.probe.training.optimizers import build_optimizer
from planner.request.recipe import Recipe


class Updates(Protocol):
    """One model's backward passes and optimizer steps."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """What holds the states."""

    def backward(self, loss: torch.Tensor) -> None:
        """Of one micro-batch."""

    def step(self) -> None:
        """Of all micro-batches together; gradients are gone afterwards."""


@dataclass(frozen=True, slots=True)
class ByOptimizer:
    """As the Trainer does it by itself, or a loop of one's own."""

    model: Any
    recipe: Recipe
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler

    def backward(self, loss: torch.Tensor) -> None:
        """The scaler passes the loss through where it is not enabled."""
        self.scaler.scale(loss).backward()

    def step(self) -> None:
        """Clip, step, forget the gradients."""
        if self.recipe.training.max_grad_norm > 0:
            self.scaler.unscale_(self.optimizer)
            parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            torch.nn.utils.clip_grad_norm_(parameters, self.recipe.training.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.model.zero_grad()


@dataclass(frozen=True, slots=True)
class ByEngine:
    """As accelerate has DeepSpeed do it (accelerate/utils/deepspeed.py DeepSpeedEngineWrapper).

    The engine counts micro-batches: its step does nothing until the last of them.
    """

    engine: Any

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The one that DeepSpeed's own steps."""
        return self.engine.basic_optimizer  # type: ignore[no-any-return]  # DeepSpeed has no types

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients are reduced on the way."""
        self.engine.backward(loss)
        if not self.engine.is_gradient_accumulation_boundary():
            self.engine.step()

    def step(self) -> None:
        """Clip, step, forget the gradients."""
        self.engine.step()


def updates_of(model: Any, recipe: Recipe, device: torch.device) -> Updates:
    """What updates `model`, which is an engine where the recipe says so."""
    if recipe.layout.strategy == "zero":
        return ByEngine(model)
    return ByOptimizer(model, recipe, build_optimizer(recipe, model), grad_scaler(recipe, device))
