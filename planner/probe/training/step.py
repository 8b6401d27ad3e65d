"""The chapter's loop: forward, loss, backward, update only the adapters, and again."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from planner.probe.meters.meter import FIRST, Meter
from planner.probe.meters.step_parts import StepParts
from planner.probe.ranks.group import let_go_of_collectives
from planner.probe.training.batch import make_batch
from planner.probe.training.objectives.online import grpo
from planner.probe.training.objectives.preference import preference_loss, run_as_accelerate_does
from planner.probe.training.stack import Batch, StepLoss, compute_loss, stack_forward
from planner.probe.training.updates import Updates, updates_of
from planner.request.recipe import Recipe

Progress = Callable[[str, int], None]
LossOf = Callable[[Batch, torch.Tensor], StepLoss]


@dataclass(frozen=True, slots=True)
class Trainee:
    """What is trained, how, under which meter. `reference` is a second model, `parts` watches the last step.

    Either is None where there is none.
    """

    model: Any
    recipe: Recipe
    device: torch.device
    meter: Meter
    vocabulary: int
    reference: Any = None
    parts: StepParts | None = None
    offloading: AbstractContextManager[Any] = field(default_factory=nullcontext)

    @property
    def models(self) -> tuple[Any, ...]:
        """The trained model, and the reference where it is a second one."""
        return (self.model,) if self.reference is None else (self.model, self.reference)


@dataclass(slots=True)
class _Phases:
    """Which phase the model's own hooks find themselves in."""

    meter: Meter
    prefix: str = FIRST

    def begin(self, phase: str) -> None:
        self.meter.begin(f"{self.prefix}{phase}")


@contextmanager
def _phases_within(trainee: Trainee) -> Iterator[_Phases]:
    """Begin the loss phase when a decoder's last layer is done: head projection and loss are one phase.

    Where a step has several forwards, each is in the forward phase again; so is all of what `generate` does, whose
    forwards fill a cache.
    """
    phases = _Phases(trainee.meter)

    def begin_loss(_: Any, __: Any, named: dict[str, Any], ___: Any) -> None:
        if named.get("past_key_values") is None:
            phases.begin("loss")

    def begin_forward(_: Any, __: Any, named: dict[str, Any]) -> None:
        if named.get("past_key_values") is None:
            phases.begin("forward")

    decoders = [decoder_of(model) for model in trainee.models]
    handles = [decoder.register_forward_hook(begin_loss, with_kwargs=True) for decoder in decoders]
    if trainee.recipe.objective != "sft":
        handles += [decoder.register_forward_pre_hook(begin_forward, with_kwargs=True) for decoder in decoders]
    try:
        yield phases
    finally:
        for handle in handles:
            handle.remove()


def train(trainee: Trainee, steps: int, progress: Progress) -> torch.Tensor:
    """Run `steps` optimizer steps; the first is metered apart. Returns the last loss, detached."""
    model, recipe = trainee.model, trainee.recipe
    updates = updates_of(model, recipe, trainee.device)
    loss_of = _loss_of(trainee)
    loss = torch.zeros(())
    with _phases_within(trainee) as phases:
        for step in range(steps):
            phases.prefix = FIRST if step == 0 else ""
            progress("step", step + 1)
            if trainee.parts is not None and step == steps - 1:
                trainee.parts.begin(model, updates.optimizer)
            loss = _micro_batches(loss_of, trainee, phases, updates)
            phases.begin("optimizer")
            updates.step()
            let_go_of_collectives()
            if recipe.evaluates:
                _evaluate(trainee, phases)
    if trainee.parts is not None:
        trainee.parts.end()
    return loss


def _evaluate(trainee: Trainee, phases: _Phases) -> None:
    """One batch as Trainer's prediction_step runs it, in the phase of the loss: of both, the larger is read."""
    phases.begin("loss")
    recipe, model = trainee.recipe.of_evaluation, trainee.model
    model.eval()
    with torch.no_grad():
        batch: dict[str, Any] = {**make_batch(recipe, trainee.vocabulary, trainee.device)}
        if recipe.loss == "liger":
            batch["skip_logits"] = True  # as where no compute_metrics reads them
        items = torch.tensor(recipe.tokens, device=trainee.device)
        compute_loss(stack_forward(model, recipe, trainee.device), batch, recipe, items)
    model.train()


def _loss_of(trainee: Trainee) -> LossOf:
    """What one micro-batch's loss is computed by; the second argument is the number of tokens in all of them."""
    recipe, device = trainee.recipe, trainee.device
    if recipe.objective == "sft":
        forward = stack_forward(trainee.model, recipe, device)
        return lambda batch, items: compute_loss(forward, batch, recipe, items)
    for model in trainee.models:
        run_as_accelerate_does(model, recipe, device)
    if recipe.objective == "grpo":
        of_generated = grpo(trainee.model, trainee.reference, recipe, device)
        return lambda _, __: of_generated()
    by_trl = preference_loss(trainee.model, trainee.reference, recipe, device)
    return lambda batch, _: by_trl(batch)


def _micro_batches(loss_of: LossOf, trainee: Trainee, phases: _Phases, updates: Updates) -> torch.Tensor:
    """All micro-batches of one optimizer step; the Trainer fetches them together, then runs them in turn."""
    recipe, device = trainee.recipe, trainee.device
    count = recipe.training.gradient_accumulation_steps
    phases.begin("forward")
    batches = [make_batch(recipe, trainee.vocabulary, device) for _ in range(count)]
    items = torch.tensor(recipe.tokens * count, device=device)
    total = torch.zeros((), device=device)
    for batch in batches:
        phases.begin("forward")
        with trainee.offloading:
            step_loss = loss_of(batch, items)
            phases.begin("backward")
            updates.backward(step_loss.loss)
        total = total + step_loss.loss.detach()
        del step_loss
    return total


def decoder_of(model: Any) -> torch.nn.Module:
    """The stack of layers below the head."""
    wrapped = isinstance(model, DistributedDataParallel) or type(model).__name__ == "DeepSpeedEngine"
    unwrapped = model.module if wrapped else model
    base = unwrapped.get_base_model() if hasattr(unwrapped, "get_base_model") else unwrapped
    decoder: torch.nn.Module = base.get_decoder()
    # Llama 4's language model knows no decoder of its own: its prefix names the one of the whole model.
    if decoder is base:
        decoder = base.get_submodule("model")
    return decoder
