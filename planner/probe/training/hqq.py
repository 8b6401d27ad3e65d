"""Group-wise int4: hqq quantizes a model that lies in host memory, weight after weight, onto the device.

transformers 5.23 cannot load with HqqConfig ("not available yet"), so this is hqq's own way, which peft trains.
hqq is imported where it is used: its build wants torch to be there first, so it is installed apart.
"""

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import PreTrainedModel

from planner.errors import FieldProblem, InvalidRequestError
from planner.probe.training.patching import Patch, patched
from planner.request.recipe import Recipe

INSTALL = "install hqq: DISABLE_CUDA=1 pip install --no-build-isolation --no-deps hqq==0.2.8.post1 einops termcolor"

Read = Callable[[], PreTrainedModel]


def is_group_wise(recipe: Recipe) -> bool:
    """Whether hqq quantizes this run's model."""
    return recipe.quantization is not None and recipe.quantization.quant_method == "hqq"


def is_installed() -> bool:
    """Whether hqq can be imported here."""
    return importlib.util.find_spec("hqq") is not None


def load(read: Read, recipe: Recipe, group_size: int, device: torch.device) -> PreTrainedModel:
    """Quantize what `read` reads into host memory. hqq's defaults otherwise: 4 bits, groups along the rows.

    Raises:
        InvalidRequestError: a weight does not divide into whole groups.
    """
    from hqq.core.quantize import BaseQuantizeConfig  # noqa: PLC0415  # see the module's docstring
    from hqq.models.hf.base import AutoHQQHFModel  # noqa: PLC0415  # see the module's docstring

    model = read()
    _refuse_uneven_groups(model, group_size)
    silent = Patch(importlib.import_module("hqq.models.base"), "tqdm", lambda items, **_: items)
    with patched([silent]):
        AutoHQQHFModel.quantize_model(
            model,
            quant_config=BaseQuantizeConfig(nbits=4, group_size=group_size),
            compute_dtype=getattr(torch, recipe.compute_dtype),
            # One entry that is part of every module's name; without it hqq looks for `model.layers`.
            device={"": str(device)},
        )
    return model


def _refuse_uneven_groups(model: torch.nn.Module, group_size: int) -> None:
    """hqq asserts that a weight divides into whole groups (hqq/core/quantize.py); it leaves `lm_head` alone."""
    for name, module in model.named_modules():
        uneven = isinstance(module, torch.nn.Linear) and module.weight.numel() % group_size
        if uneven and not name.endswith("lm_head"):
            fix = f"{name}.weight does not divide into groups of {group_size}; take a smaller group"
            raise InvalidRequestError("hqq cannot quantize this model.", [FieldProblem("quantization.group_size", fix)])


def all_linear(model: torch.nn.Module) -> list[str]:
    """What "all-linear" means here. peft looks for subclasses of `torch.nn.Linear`, and hqq's layer is none.

    Source: peft 0.21.2 tuners/tuners_utils.py `_maybe_include_all_linear_layers`, "No `target_modules` passed".
    """
    from hqq.core.quantize import HQQLinear  # noqa: PLC0415  # see the module's docstring

    return sorted({name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, HQQLinear)})


def tensors_of(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    """What hqq leaves on the device, in its order: everything else first, then the linear layers."""
    from hqq.core.quantize import HQQLinear  # noqa: PLC0415  # see the module's docstring

    modules = list(model.modules())
    for module in modules:
        if not isinstance(module, HQQLinear | torch.nn.Linear):
            yield from module.parameters(recurse=False)
            yield from module.buffers(recurse=False)
    for module in modules:
        if isinstance(module, HQQLinear):
            held: Any = (module.W_q, *module.meta.values(), module.bias)
            yield from (tensor for tensor in held if isinstance(tensor, torch.Tensor))
        elif isinstance(module, torch.nn.Linear):
            yield from module.parameters(recurse=False)
