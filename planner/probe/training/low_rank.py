"""GaLore's and APOLLO's optimizers, grouped as transformers does, and a decomposition that a virtual card can play.

Their packages are not among the probe's own: galore-torch and apollo-torch are installed by who wants them.
"""

import importlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_optimizer import _setup_low_rank_optimizer

from planner.probe.training.patching import Patch, patched
from planner.request.low_rank import OptimArgs, projection_of
from planner.request.recipe import Recipe

PACKAGES = {
    "galore_adamw": "galore_torch", "galore_adamw_8bit": "galore_torch", "galore_adafactor": "galore_torch",
    "apollo_adamw": "apollo_torch",
}  # fmt: skip


def low_rank_optimizer(recipe: Recipe, model: Any, learning_rate: float) -> torch.optim.Optimizer:
    """As `Trainer.create_optimizer` builds it, but that each step makes its projections anew.

    So the measured step is the largest, which in life is each `update_proj_gap`-th.
    """
    training, arguments = recipe.training, recipe.training.optim_args or OptimArgs()
    keys: dict[str, Any] = {"rank": arguments.rank, "update_proj_gap": 1, "scale": arguments.scale or 1.0}
    keys |= {"proj_type": arguments.proj_type}
    more: dict[str, Any] = {"lr": learning_rate}
    if training.optim == "apollo_adamw":
        keys |= {"proj": arguments.proj, "scale_type": arguments.scale_type}
    if training.optim == "galore_adafactor":
        more |= {"scale_parameter": False, "relative_step": False}
    targets: Any = training.optim_target_modules
    options: Any = TrainingArguments.__new__(TrainingArguments)  # read for its targets alone
    options.optim_target_modules = list(targets) if isinstance(targets, tuple) else targets
    kind, built = _setup_low_rank_optimizer(
        options, model, training.optim, {training.optim: _class_of(training.optim)}, keys, more
    )
    optimizer: torch.optim.Optimizer = kind(built.pop("params"), **built)
    return optimizer


def _class_of(optim: str) -> Any:
    """Imported when one is asked for: another run needs neither package."""
    if optim == "apollo_adamw":
        return importlib.import_module("apollo_torch").APOLLOAdamW
    kinds = {"adamw": "GaLoreAdamW", "adamw_8bit": "GaLoreAdamW8bit", "adafactor": "GaLoreAdafactor"}
    return getattr(importlib.import_module("galore_torch"), kinds[optim.removeprefix("galore_")])


def decomposing(recipe: Recipe) -> AbstractContextManager[None]:
    """Where a virtual card, which has no cuSOLVER, is asked for a decomposition: the tensors of one."""
    projection = projection_of(recipe.training.optim, recipe.training.optim_args)
    if projection is None or not projection.decomposed:
        return nullcontext()
    return patched([Patch(torch.linalg, "svd", _decomposed)])


def _decomposed(matrix: torch.Tensor, *, full_matrices: bool = True) -> tuple[torch.Tensor, ...]:
    """What gesvdj makes without its workspace: U, S, Vh, info and a copy of the matrix by columns.

    Source: aten/src/ATen/native/LinearAlgebra.cpp (_linalg_svd), cuda/linalg/BatchLinearAlgebraLib.cpp
    (svd_cusolver, cloneBatchedColumnMajor).
    """
    if full_matrices or matrix.dim() != 2:
        msg = "only the decomposition that GaLore asks for is played"
        raise NotImplementedError(msg)
    rows, columns = matrix.shape
    least = min(rows, columns)
    left, values, right = matrix.new_empty(least, rows), matrix.new_empty(least), matrix.new_empty(least, columns)
    info = matrix.new_empty((), dtype=torch.int32)
    copied = matrix.new_empty(columns, rows)
    del info, copied
    return left.t(), values, right
