"""The chapter's loop: forward, loss, backward, update only the adapters, and again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from planner.probe.batch import make_batch
from planner.probe.meters.meter import FIRST, Meter
from planner.probe.optimizers import build_optimizer
from planner.probe.stack import Forward, compute_loss, stack_forward
from planner.recipe import Recipe

Progress = Callable[[str, int], None]


def train(
    model: Any, recipe: Recipe, device: torch.device, meter: Meter, steps: int, vocabulary: int, progress: Progress
) -> torch.Tensor:
    """Run `steps` optimizer steps; the first is metered apart. Returns the last loss, detached."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(recipe.training.optim, parameters)
    forward = stack_forward(model, recipe, device)
    loss = torch.empty(())
    with _loss_phase(model, meter) as phases:
        for step in range(steps):
            phases.prefix = FIRST if step == 0 else ""
            progress("step", step + 1)
            loss = _optimizer_step(forward, recipe, device, meter, phases.prefix, vocabulary)
            meter.begin(f"{phases.prefix}optimizer")
            if recipe.training.max_grad_norm > 0:
                torch.nn.utils.clip_grad_norm_(parameters, recipe.training.max_grad_norm)
            optimizer.step()
            model.zero_grad()
    return loss


def _optimizer_step(
    forward: Forward, recipe: Recipe, device: torch.device, meter: Meter, prefix: str, vocabulary: int
) -> torch.Tensor:
    """All micro-batches of one optimizer step; the Trainer fetches them together, then runs them in turn."""
    count = recipe.training.gradient_accumulation_steps
    meter.begin(f"{prefix}forward")
    batches = [make_batch(recipe, vocabulary, device) for _ in range(count)]
    items = torch.tensor(recipe.tokens * count, device=device)
    total = torch.zeros((), device=device)
    for batch in batches:
        meter.begin(f"{prefix}forward")
        step_loss = compute_loss(forward, batch, recipe, items)
        meter.begin(f"{prefix}backward")
        step_loss.loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        total = total + step_loss.loss.detach()
        del step_loss
    return total


class _LossPhase:
    """Which step the loss phase belongs to."""

    prefix = FIRST


@contextmanager
def _loss_phase(model: Any, meter: Meter) -> Iterator[_LossPhase]:
    """Begin the loss phase when the decoder's last layer is done: head projection and loss are one phase."""
    phases = _LossPhase()

    def begin(*_: Any) -> None:
        meter.begin(f"{phases.prefix}loss")

    handle = decoder_of(model).register_forward_hook(begin)
    try:
        yield phases
    finally:
        handle.remove()


def decoder_of(model: Any) -> torch.nn.Module:
    """The stack of layers below the head."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder: torch.nn.Module = base.base_model
    return decoder


