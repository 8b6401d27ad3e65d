"""How the stack calls the model: autocast, what accelerate does to the outputs, and the loss."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils.operations import convert_outputs_to_fp32
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.integrations import sdpa_attention

from planner.probe.training.load import torch_dtype
from planner.probe.training.patching import Patch, patched
from planner.request.recipe import Recipe

_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "mem_efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
_CPU_KERNELS = ("flash", "math")

Batch = dict[str, torch.Tensor]
Forward = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class StepLoss:
    """The scalar to run backward from, and the model's outputs where the harness keeps them."""

    loss: torch.Tensor
    kept: Any = None


def stack_forward(model: torch.nn.Module, recipe: Recipe, device: torch.device) -> Forward:
    """The model's forward as the stack calls it.

    `accelerate.Accelerator.prepare_model` runs it under autocast and hands back outputs in float32
    (accelerate/accelerator.py, "convert_outputs_to_fp32"); a plain loop calls the model.
    """
    if recipe.autocast is None:
        return model
    autocast = torch.autocast(device.type, dtype=torch_dtype(recipe.autocast))
    forward: Forward = convert_outputs_to_fp32(autocast(functools.partial(model)))
    return forward


def compute_loss(forward: Forward, batch: Batch, recipe: Recipe, items: torch.Tensor) -> StepLoss:
    """One micro-batch's loss, as the stack's `compute_loss` has it.

    transformers/trainer.py `compute_loss`: the outputs live until it returns. `items` is `num_items_in_batch`.
    """
    if recipe.loss == "chunked":
        return _fused_head_loss(forward, batch, recipe, items)
    outputs = forward(**batch, use_cache=False, num_items_in_batch=items)
    return StepLoss(outputs["loss"], outputs if recipe.outputs_kept else None)


def _fused_head_loss(forward: Forward, batch: Batch, recipe: Recipe, items: torch.Tensor) -> StepLoss:
    """trl 1.16 `SFTTrainer.compute_loss` around its fused head (trl/trainer/sft_trainer.py)."""
    outputs = forward(**batch, use_cache=False, fused_lm_head=True)
    loss = (-outputs.log_probs).sum() / items.clamp(min=1)
    return StepLoss(loss, outputs if recipe.outputs_kept else None)


@contextmanager
def pinned_attention(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Run sdpa on the one kernel the request names; grouped K/V are expanded where that kernel takes none.

    A CPU has flash and math only; for the others it keeps its own choice.
    """
    kernel = recipe.training.sdpa_kernel
    if kernel == "auto" or (device.type == "cpu" and kernel not in _CPU_KERNELS):
        yield
        return
    ungrouped = [Patch(sdpa_attention, "use_gqa_in_sdpa", lambda *_: False)] if kernel == "mem_efficient" else []
    with sdpa_kernel([_BACKENDS[kernel]]), patched(ungrouped):
        yield
