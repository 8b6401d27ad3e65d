"""The whole story, the same under every meter: load, prepare, step, save."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import _disable_current_modes
from transformers import PretrainedConfig, PreTrainedModel
from transformers.integrations.neftune import activate_neftune

from planner.probe.checkpoint.source import checkpoint_of
from planner.probe.meters.meter import LOAD, PREPARE, SAVE, Meter, Tell, tell_nobody
from planner.probe.meters.step_parts import StepParts
from planner.probe.options import Options
from planner.probe.training.checks import Fingerprints, fingerprints, verify_finite, verify_only_trainables_changed
from planner.probe.training.fake_quantization import fake_quantize
from planner.probe.training.load import load_model
from planner.probe.training.low_rank import decomposing
from planner.probe.training.offloading import offloading
from planner.probe.training.patching import Patch, patched
from planner.probe.training.prepare import TrainableModel, prepare_model, prepare_reference
from planner.probe.training.save import save_and_verify
from planner.probe.training.stack import pinned_attention
from planner.probe.training.step import Progress, Trainee, train
from planner.request.recipe import Recipe
from planner.request.schema import Request


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, and how it was asked for. `tell` hears what each phase has read so far. `rank` is of the world."""

    request: Request
    recipe: Recipe
    config: PretrainedConfig
    options: Options
    progress: Progress
    tell: Tell = tell_nobody
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Trained:
    """What is left when the story is over. Keep it until the meter is left, so that resident bytes are true."""

    model: TrainableModel
    reference: PreTrainedModel | None
    before: Fingerprints | None
    loss: torch.Tensor

    def verify(self) -> None:
        """Prove that the right parameters moved and the loss is a number; a virtual card has no values to prove.

        Raises:
            TrainingCheckError: a frozen parameter moved, a trainable one did not, or the loss is no number.
        """
        if self.before is not None:
            verify_only_trainables_changed(self.model, self.before)
            verify_finite(self.loss)


def _no_random_numbers() -> AbstractContextManager[None]:
    """Leave peft's new adapters as they are allocated: drawing their values on the host takes a tenth of a dry run."""
    return patched([Patch(torch.nn.init, "kaiming_uniform_", lambda tensor, *_, **__: tensor)])


def story(job: Job, device: torch.device, meter: Meter, parts: StepParts | None = None) -> Trained:
    """Load, prepare, train, save. `parts` watches the last step.

    Raises:
        AdapterSaveError: the saved adapters are not the trained ones.
    """
    recipe, options = job.recipe, job.options
    dry = options.instrument == "dry-run"  # a virtual card keeps no values
    torch.manual_seed(options.seed)
    with checkpoint_of(job.request, recipe, job.config, options) as weights:
        meter.begin(LOAD)
        job.progress(LOAD, 0)
        # FSDP's ranks load beside the card, and only shards of it come there (transformers/modeling_utils.py,
        # is_fsdp_enabled), unless the weights are quantized, which happens on the card.
        sharded_first = recipe.layout.strategy == "fsdp" and recipe.quantization is None
        beside = torch.device("meta") if sharded_first else device
        model = load_model(job.request, recipe, job.config, beside, weights)
        meter.begin(PREPARE)
        job.progress(PREPARE, 0)
        with _no_random_numbers() if dry else nullcontext():
            trainable = prepare_model(model, recipe)
            fake_quantize(trainable, recipe)
        del model
        reference = _reference(job, device, weights)
    if several := recipe.layout.strategy not in {"single", "device_map"}:
        # FSDP brings DTensor and sympy, a tenth of what a cold run on one card imports.
        from planner.probe.ranks.cut import spread_over_cards  # noqa: PLC0415

        trainable = spread_over_cards(trainable, recipe, device)
    before = None if dry else fingerprints(trainable)
    vocabulary = job.config.get_text_config().vocab_size
    with pinned_attention(recipe, device), decomposing(recipe) if dry else nullcontext():
        if recipe.training.neftune_noise_alpha is not None:
            activate_neftune(trainable, recipe.training.neftune_noise_alpha)
        trainee = Trainee(trainable, recipe, device, meter, vocabulary, reference, parts, offloading(recipe, trainable))
        loss = train(trainee, options.steps, job.progress)
    if not several:
        meter.begin(SAVE)
        job.progress(SAVE, 0)
        with _disable_current_modes():  # the copies are host memory in life
            save_and_verify(trainable, values=not dry)
    return Trained(trainable, reference, before, loss)


def _reference(job: Job, device: torch.device, weights: str) -> PreTrainedModel | None:
    """The reference model, loaded as the trained one was, where it is a second one."""
    if job.recipe.reference != "copy":
        return None
    return prepare_reference(load_model(job.request, job.recipe, job.config, device, weights))
