"""What must change for the real stack to run on fake tensors at all. Nothing here moves a byte.

Fake tensors on device `cpu` stand for the card: a fake `cuda` tensor dies in autograd on a machine without CUDA
("PyTorch is not linked with support for cuda devices").
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bitsandbytes as bnb
import bitsandbytes.optim.optimizer as bnb_optimizer
import peft.tuners.lora.dora as peft_dora
import torch
import torch._meta_registrations as meta_registrations
import transformers.integrations.bitsandbytes as hf_bitsandbytes
import transformers.masking_utils as masking
from torch.utils._python_dispatch import _disable_current_modes
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.quantizers_utils import get_module_from_name
from transformers.utils import import_utils

from planner.probe.groupwise import is_group_wise
from planner.probe.groupwise_fakes import without_values
from planner.probe.knowns import KnownValues
from planner.probe.memo import RememberingFakes
from planner.probe.patching import Patch, patched
from planner.recipe import Recipe

# What `Params4bit` and `Int8Params` carry beside its bytes (bitsandbytes/nn/modules.py).
_QUANTIZED_ATTRIBUTES = (
    "quant_state", "bnb_quantized", "compress_statistics", "quant_type", "quant_storage", "blocksize", "module",
    "CB", "SCB", "has_fp16_weights",
)  # fmt: skip


@contextmanager
def fake_tensors(recipe: Recipe) -> Iterator[None]:
    """Every tensor made inside is fake: shape, dtype and storage size, no bytes."""
    with RememberingFakes(), KnownValues(recipe), patched(_patches(recipe)):
        yield


def _patches(recipe: Recipe) -> list[Patch]:
    padded = recipe.training.padded
    return [
        Patch(PreTrainedModel, "get_init_context", classmethod(_init_outside_modes)),
        Patch(hf_bitsandbytes.Bnb4bitQuantize, "convert", _quantize_without_params4bit),
        Patch(hf_bitsandbytes.Bnb8bitQuantize, "convert", _quantize_without_int8params),
        Patch(torch.nn.Module, "_apply", _apply_by_replacing),
        Patch(bnb.functional, "create_dynamic_map", _blank_dynamic_map),
        Patch(bnb_optimizer, "sync_gpu", lambda _: None),
        Patch(torch.amp.GradScaler, "_maybe_opt_step", _opt_step),
        Patch(peft_dora, "dequantize_module_weight", _dequantize),
        Patch(peft_dora, "deepcopy", _copied_layer),
        Patch(meta_registrations, "_meta_grouped_mm_common", _grouped_mm_in_any_dtype),
        # A fake tensor must not count as "we are being traced", which would build masks a real run skips.
        Patch(import_utils, "is_fake_tensor", lambda _: False),
        # These read tensor values; the recipe knows the answers.
        Patch(masking, "fast_all", lambda _: not padded),
        Patch(masking, "find_packed_sequence_indices", lambda _: None),
        *(without_values() if is_group_wise(recipe) else ()),
    ]


_INIT_CONTEXT = PreTrainedModel.get_init_context.__func__  # type: ignore[attr-defined]  # a classmethod's function


def _init_outside_modes(cls: type[PreTrainedModel], *args: Any, **kwargs: Any) -> list[Any]:
    """Build the module tree outside every mode, on the meta device as transformers does anyway.

    `Params4bit(fake)` fails: "raw Tensor object is already associated to a python object of type FakeTensor".
    """
    return [_disable_current_modes(), *_INIT_CONTEXT(cls, *args, **kwargs)]


def _quantize_without_params4bit(
    _self: Any, input_dict: dict[str, Any], model: Any = None, **_: Any
) -> dict[str, torch.Tensor]:
    """`Bnb4bitQuantize.convert` and `Params4bit._quantize`, step for step, on a plain parameter."""
    result: dict[str, torch.Tensor] = {}
    for name, value in input_dict.items():
        weight = value[0] if isinstance(value, list) else value
        module, _leaf = get_module_from_name(model, name)
        if issubclass(module.source_cls, Conv1D):
            weight = weight.T
        old = model.get_parameter_or_buffer(name)
        packed, state = bnb.functional.quantize_4bit(
            weight.contiguous(),
            blocksize=old.blocksize,
            compress_statistics=old.compress_statistics,
            quant_type=old.quant_type,
            quant_storage=old.quant_storage,
        )
        parameter = torch.nn.Parameter(packed, requires_grad=False)
        for attribute in _QUANTIZED_ATTRIBUTES:
            setattr(parameter, attribute, getattr(old, attribute, None))
        parameter.quant_state, parameter.bnb_quantized = state, True  # type: ignore[attr-defined]  # as Params4bit
        module.quant_state = state
        module._is_hf_initialized = True
        result[name] = parameter
    return result


def _quantize_without_int8params(
    _self: Any, input_dict: dict[str, Any], model: Any = None, **_: Any
) -> dict[str, torch.Tensor]:
    """`Bnb8bitQuantize.convert` and `Int8Params._quantize`, step for step, on a plain parameter."""
    result: dict[str, torch.Tensor] = {}
    for name, value in input_dict.items():
        weight = value[0] if isinstance(value, list) else value
        module, _leaf = get_module_from_name(model, name)
        if issubclass(module.source_cls, Conv1D):
            weight = weight.T
        half = weight.contiguous().to(torch.float16)
        quantized, scales, _outliers = bnb.functional.int8_vectorwise_quant(half)
        parameter = torch.nn.Parameter(quantized, requires_grad=False)
        parameter.CB, parameter.SCB, parameter.has_fp16_weights = quantized, scales, False  # type: ignore[attr-defined]  # as Int8Params
        result[name] = parameter
    return result


def _apply_by_replacing(self: torch.nn.Module, fn: Any, recurse: bool = True) -> torch.nn.Module:
    """`nn.Module._apply` insists on swapping fake parameters, which fails; put new ones in their place."""
    if recurse:
        for child in self.children():
            child._apply(fn)
    for name, parameter in self._parameters.items():
        if parameter is None:
            continue
        with torch.no_grad():
            applied = fn(parameter)
        if applied is not parameter:
            replacement = torch.nn.Parameter(applied, requires_grad=parameter.requires_grad)
            for attribute in _QUANTIZED_ATTRIBUTES:
                if hasattr(parameter, attribute):
                    setattr(replacement, attribute, getattr(parameter, attribute))
            self._parameters[name] = replacement
    for name, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[name] = fn(buffer)
    return self


def _blank_dynamic_map(*_: Any, **__: Any) -> torch.Tensor:
    """The original sorts a list it reads back from a tensor; the table is 256 floats either way."""
    return torch.empty(256)


def _opt_step(
    _self: torch.amp.GradScaler, optimizer: torch.optim.Optimizer, _state: dict[str, Any], *args: Any, **kwargs: Any
) -> float | None:
    """The original reads back whether a gradient overflowed; a step that is to be measured is one that is taken."""
    loss: float | None = optimizer.step(*args, **kwargs)
    return loss


_GROUPED_MM = meta_registrations._meta_grouped_mm_common


def _grouped_mm_in_any_dtype(mat_a: torch.Tensor, mat_b: torch.Tensor, **more: Any) -> torch.Tensor:
    """The kernel takes float32 and float16 too (ATen/native/GroupedMMUtils.h, _grouped_mm_validate_inputs).

    Its shape function was left at bfloat16. Only shapes and strides are asked for here, on the meta device.
    """
    if more.get("scale_a") is not None or mat_a.dtype is torch.bfloat16:
        product: torch.Tensor = _GROUPED_MM(mat_a, mat_b, **more)
        return product
    out: torch.Tensor = _GROUPED_MM(mat_a.to(torch.bfloat16), mat_b.to(torch.bfloat16), **{**more, "out_dtype": None})
    return out.to(more.get("out_dtype") or mat_a.dtype)


def _dequantize(module: Any) -> torch.Tensor:
    """peft decides by the class name `Params4bit`, which a fake parameter cannot have."""
    weight: torch.Tensor
    if hasattr(module, "W_q"):  # hqq's layer has no `weight`
        weight = module.dequantize()
        return weight
    if hasattr(module.weight, "quant_state"):
        weight = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
        return weight
    unquantized: torch.Tensor = module.weight
    return unquantized


def _copied_layer(module: Any) -> Any:
    """`deepcopy(Linear4bit)`, which fails on fake parameters: the weight, and the quantization state twice.

    Once as the weight's (bitsandbytes/nn/modules.py, `Params4bit.__deepcopy__` starts a memo of its own), once as the
    module's.
    """
    copied = copy.copy(module)
    copied._parameters = {
        name: None if parameter is None else torch.nn.Parameter(parameter.detach().clone(), requires_grad=False)
        for name, parameter in module._parameters.items()
    }
    copied.weight.quant_state = _copied_state(module.weight.quant_state)
    copied.quant_state = _copied_state(module.weight.quant_state)
    return copied


def _copied_state(state: Any) -> Any:
    copied = copy.copy(state)
    for name, value in vars(state).items():
        if isinstance(value, torch.Tensor):
            setattr(copied, name, value.clone())
    if state.nested:
        copied.state2 = _copied_state(state.state2)
    return copied
