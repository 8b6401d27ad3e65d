"""Prepare phase: what the stack does between loading and the first step. Real peft, nothing imitated."""

from typing import Any

import torch
from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import PreTrainedModel

from planner.errors import FieldProblem, InvalidRequestError
from planner.probe.training import hqq
from planner.probe.training.adapters import adapter_config
from planner.probe.training.load import torch_dtype
from planner.request.lora import Lora
from planner.request.recipe import Recipe
from planner.tensors.modules import ALL_LINEAR, LINEAR_NAMES

TrainableModel = PreTrainedModel | PeftModel

# What each trainer's metrics ask the fused head for (trl 1.16, trainer/sft_trainer.py, dpo, kto and grpo).
_OUTPUTS: dict[str, tuple[str, ...]] = {
    "sft": ("log_probs", "entropy", "is_top1"),
    "dpo": ("log_probs", "entropy", "mean_logits", "is_top1"),
    "kto": ("log_probs", "entropy", "mean_logits"),
    "grpo": ("log_probs", "entropy"),
}


def prepare_model(model: PreTrainedModel, recipe: Recipe) -> TrainableModel:
    """Upcast, wrap and checkpoint as the recipe says; the result is in training mode."""
    training = recipe.training
    reentrant = {"use_reentrant": training.use_reentrant}
    if recipe.kbit_preparation:
        prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=training.gradient_checkpointing,
            gradient_checkpointing_kwargs=reentrant,
        )
    trainable: Any = model
    if recipe.lora is not None:
        config = adapter_config(_with_names(recipe, model), "SEQ_CLS" if recipe.objective == "reward" else "CAUSAL_LM")
        trainable = get_peft_model(model, config)
        if recipe.adapter_dtype != "float32":
            _cast_trained(trainable, torch_dtype(recipe.adapter_dtype))
        if recipe.lora.modules_to_save_dtype:
            _cast_trained(trainable, torch_dtype(recipe.lora.modules_to_save_dtype), only=".modules_to_save.")
    if training.gradient_checkpointing:
        # transformers/trainer.py, `_inner_training_loop`; it also makes the embedding output require grad.
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=reentrant)
    if recipe.objective not in {"sft", "grpo"}:
        without_dropout(trainable)
    apply_loss(trainable, recipe)
    trainable.train()
    return trainable  # type: ignore[no-any-return]  # peft wraps any module


def _with_names(recipe: Recipe, model: PreTrainedModel) -> Lora:
    """The adapter with its targets as a list where a word stands for one; PEFT chooses layers of lists alone."""
    lora = recipe.lora or Lora()
    if hqq.is_group_wise(recipe) and lora.target_modules in {ALL_LINEAR, LINEAR_NAMES}:
        return lora.model_copy(update={"target_modules": tuple(hqq.all_linear(model))})
    if lora.target_modules == LINEAR_NAMES:
        return lora.model_copy(update={"target_modules": tuple(_linear_names(model))})
    return lora


def prepare_reference(model: PreTrainedModel) -> PreTrainedModel:
    """A second model as TRL keeps it: no adapters, nothing frozen, in evaluation mode, scored by the fused head."""
    from trl.trainer.utils import add_fused_lm_head  # noqa: PLC0415  # takes a second: only where it is used

    without_dropout(model)
    add_fused_lm_head(model)
    model.eval()
    return model


def without_dropout(model: Any) -> None:
    """TRL's `disable_dropout`, which its preference trainers have on."""
    from trl.trainer.utils import disable_dropout_in_model  # noqa: PLC0415  # takes a second: only where it is used

    disable_dropout_in_model(model)


def _linear_names(model: torch.nn.Module) -> list[str]:
    """Leaf names of nn.Linear, the output head aside, as Axolotl and LLaMA-Factory list them."""
    linear = (name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear))
    return sorted({name.rpartition(".")[2] for name in linear} - {"lm_head"})


def apply_loss(model: Any, recipe: Recipe) -> None:
    """Change the model as TRL and Liger do. Both come from the installed packages.

    TRL 1.16 gives every model its fused head (trl/trainer/sft_trainer.py, "add_fused_lm_head", and the outputs its
    metrics ask for); the Trainer applies Liger with its default kernels, or those of `liger_kernel_config`
    (transformers/integrations/liger.py).

    Raises:
        InvalidRequestError: TRL's head would find no decoder: Llama 4's `base_model_prefix` names no attribute.
    """
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    if recipe.loss == "chunked":
        if base.base_model is base:
            fix = f"TRL's fused head asks {type(base).__name__} for its base_model and gets none; use full_logits"
            raise InvalidRequestError("TRL fails on this model.", [FieldProblem("training.loss", fix)])
        from trl.trainer.utils import add_fused_lm_head  # noqa: PLC0415  # takes a second: only where it is used

        add_fused_lm_head(base, outputs=_OUTPUTS[recipe.objective])
    kernels = recipe.training.liger_kernel_config
    if recipe.loss == "liger" or kernels is not None:
        from transformers.integrations.liger import apply_liger_kernel  # noqa: PLC0415  # Linux only

        fused = {"fused_linear_cross_entropy": recipe.loss == "liger"}
        apply_liger_kernel(base, None if kernels is None else kernels.model_dump() | fused)


def _cast_trained(model: torch.nn.Module, dtype: torch.dtype, only: str = "") -> None:
    """Bring what is trained from peft's dtypes to the stack's, as TRL does for a quantized model: adapters from
    float32, copies of whole modules from that of their originals. `only`: of what has this in its name.

    The DoRA magnitude stays float32 (trl/trainer/sft_trainer.py, "The DoRA magnitude vector is excluded").
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and only in name and "lora_magnitude_vector" not in name:
            parameter.data = parameter.data.to(dtype)
