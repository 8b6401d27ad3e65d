"""Preference objectives by TRL's own trainers: their loss code runs, on an object that never prepared a data set.

A trainer of TRL cannot be built without a tokenizer, a data set and folders to write to. Its `_compute_loss` needs the
attributes that `__init__` sets from its configuration's defaults, which are set here in the same words.
"""

import functools
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from accelerate.utils.operations import convert_outputs_to_fp32

from planner.probe.training.load import torch_dtype
from planner.probe.training.stack import Batch, StepLoss
from planner.request.objective import Objective
from planner.request.recipe import Recipe


class OneProcess:
    """What TRL asks of an `Accelerator` in a run of one process: nothing is gathered, nothing is wrapped."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @staticmethod
    def gather(values: torch.Tensor) -> torch.Tensor:
        """The values of all processes."""
        return values

    gather_for_metrics = gather

    @staticmethod
    def unwrap_model(model: Any) -> Any:
        """The model, which nothing wraps."""
        return model


def run_as_accelerate_does(model: Any, recipe: Recipe, device: torch.device) -> None:
    """Set the model's own `forward` to one under autocast, whose outputs are float32.

    accelerate/accelerator.py prepare_model changes the model itself; TRL calls `self.model` and the reference model
    beside the one that a trainer hands to its loss.
    """
    if recipe.autocast is None:
        return
    autocast = torch.autocast(device.type, dtype=torch_dtype(recipe.autocast))
    model.forward = convert_outputs_to_fp32(autocast(functools.partial(model.forward)))


def preference_loss(model: Any, reference: Any, recipe: Recipe, device: torch.device) -> Callable[[Batch], StepLoss]:
    """The loss of one micro-batch, as the objective's trainer computes it.

    transformers/trainer.py training_step divides it by the micro-batches of an optimizer step.
    """
    trainer = _trainer(model, reference, recipe, device)

    def loss_of(batch: Batch) -> StepLoss:
        loss = trainer.compute_loss(model, batch)
        return StepLoss(loss / recipe.training.gradient_accumulation_steps if recipe.accumulates else loss)

    return loss_of


def _trainer(model: Any, reference: Any, recipe: Recipe, device: torch.device) -> Any:
    """The objective's trainer with what its `__init__` sets from the defaults of its configuration.

    `aux_loss_enabled` is false: the formulas plan no load-balancing loss, for SFT neither.
    """
    trainer, own = _TRAINERS[recipe.objective]()
    vars(trainer).update(
        model=model,
        ref_model=reference,
        accelerator=OneProcess(device),
        args=SimpleNamespace(
            device=device,
            gradient_checkpointing_kwargs={"use_reentrant": recipe.training.use_reentrant},
            max_length=recipe.length,
            center_rewards_coefficient=None,
        ),
        precompute_ref_logps=recipe.training.precompute_ref_log_probs,
        beta=0.1,
        aux_loss_enabled=False,
        _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        # Set where a 4-bit model's adapters were cast (peft_module_casting_to_bf16).
        _peft_has_been_casted_to_bf16=recipe.quantization is not None and recipe.adapter_dtype == "bfloat16",
        _stored_metrics={"train": defaultdict(list), "eval": defaultdict(list)},
        **own,
    )
    return trainer


def _dpo_trainer() -> tuple[Any, dict[str, Any]]:
    """trl 1.16 trainer/dpo_trainer.py DPOTrainer.__init__, with dpo_config.py's defaults."""
    from trl.trainer.dpo_trainer import DPOTrainer  # noqa: PLC0415  # takes a second: only where it is used

    return DPOTrainer.__new__(DPOTrainer), {
        "loss_types": ["sigmoid"],
        "loss_weights": [1.0],
        "ld_alpha": None,
        "f_divergence_type": "reverse_kl",
        "label_smoothing": 0.0,
        "use_weighting": False,
    }


def _kto_trainer() -> tuple[Any, dict[str, Any]]:
    """trl 1.16 trainer/kto_trainer.py KTOTrainer.__init__, with kto_config.py's defaults."""
    from trl.trainer.kto_trainer import KTOTrainer  # noqa: PLC0415  # takes a second: only where it is used

    return KTOTrainer.__new__(KTOTrainer), {
        "loss_type": "kto",
        "calculate_KL": True,
        "desirable_weight": 1.0,
        "undesirable_weight": 1.0,
    }


def _orpo_trainer() -> tuple[Any, dict[str, Any]]:
    """trl 1.16 experimental/orpo/orpo_trainer.py ORPOTrainer.__init__, with orpo_config.py's defaults."""
    from trl.experimental.orpo.orpo_trainer import ORPOTrainer  # noqa: PLC0415  # takes a second

    return ORPOTrainer.__new__(ORPOTrainer), {"is_encoder_decoder": False, "padding_value": 0}


def _cpo_trainer() -> tuple[Any, dict[str, Any]]:
    """trl 1.16 experimental/cpo/cpo_trainer.py CPOTrainer.__init__, with cpo_config.py's defaults."""
    from trl.experimental.cpo.cpo_trainer import CPOTrainer  # noqa: PLC0415  # takes a second

    return CPOTrainer.__new__(CPOTrainer), {
        "is_encoder_decoder": False,
        "pad_token_id": 0,
        "loss_type": "sigmoid",
        "label_smoothing": 0.0,
        "simpo_gamma": 0.5,
        "cpo_alpha": 1.0,
        "alpha": 0.0,
    }


def _reward_trainer() -> tuple[Any, dict[str, Any]]:
    """trl 1.16 trainer/reward_trainer.py RewardTrainer.__init__, with reward_config.py's defaults."""
    from trl.trainer.reward_trainer import RewardTrainer  # noqa: PLC0415  # takes a second: only where it is used

    return RewardTrainer.__new__(RewardTrainer), {}


_TRAINERS: dict[Objective, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "dpo": _dpo_trainer,
    "kto": _kto_trainer,
    "orpo": _orpo_trainer,
    "cpo": _cpo_trainer,
    "reward": _reward_trainer,
}
