"""What a CPU run does differently from the card a dry run follows, put right. Each patch says why it is there."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import bitsandbytes as bnb
import bitsandbytes.optim.optimizer as bnb_optimizer
import peft
import torch
import transformers.modeling_utils as modeling
from bitsandbytes.autograd._functions import MatMul8bitLt
from peft.tuners.lora.layer import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.nn import functional
from transformers.integrations import moe

from planner.probe import prepare, scaling
from planner.probe.attention import scaled_dot_product_as_on
from planner.probe.autocast import cuda_autocast_lists
from planner.probe.flash2 import flash_attention_2_stand_in
from planner.probe.groupwise import is_group_wise
from planner.probe.groupwise_fakes import read_on_host
from planner.probe.meters.live import LiveMeter
from planner.probe.patching import Patch, patched
from planner.probe.target import Target
from planner.recipe import Recipe

# bitsandbytes/optim/optimizer.py, get_state_buffer: larger states of a paged optimizer are managed memory, which
# torch's allocator never sees.
_PAGED_FROM_ELEMENTS = 1e5
# transformers/modeling_utils.py, caching_allocator_warmup: never more than the card less 1.2 GiB.
_WARMUP_SPARES_BYTES = int(1.2 * 1024**3)


@contextmanager
def follow_cuda(recipe: Recipe, target: Target, meter: LiveMeter) -> Iterator[None]:
    """Follow CUDA's kernel choices, autocast lists, host allocations and loader habits. Undone on exit."""
    with cuda_autocast_lists(), patched(_patches(recipe, target, meter)):
        yield


def _patches(recipe: Recipe, target: Target, meter: LiveMeter) -> list[Patch]:
    autocast_enabled = torch.is_autocast_enabled
    launches: list[Patch] = []
    if recipe.loss != "full_logits":
        from planner.probe.launches import unlaunched_kernels  # noqa: PLC0415  # TRL takes a second to import

        launches = unlaunched_kernels(target)
    return [
        # peft asks for the accelerator's autocast state, which the CPU build reports as off.
        Patch(torch, "is_autocast_enabled", lambda kind="cpu": autocast_enabled("cpu" if kind == "cuda" else kind)),
        Patch(
            functional,
            "scaled_dot_product_attention",
            scaled_dot_product_as_on(target, recipe.training.sdpa_kernel),
        ),
        Patch(scaling, "scales_on", lambda _: True),
        *(flash_attention_2_stand_in() if recipe.training.attn_implementation == "flash_attention_2" else ()),
        Patch(functional, "dropout", _fused_dropout),
        Patch(functional, "softmax", _converting_softmax),
        Patch(modeling, "caching_allocator_warmup", _warmup_block(target, meter)),
        Patch(prepare, "prepare_model_for_kbit_training", _then_empty_cache(meter)),
        Patch(LoraLayer, "update_layer", _made_on_host(meter)),
        Patch(BaseTunerLayer, "_move_adapter_to_device_of_base_layer", _moved_to_device(meter)),
        Patch(bnb_optimizer.Optimizer8bit, "get_state_buffer", _paged_states(meter)),
        Patch(bnb, "matmul", _int8_product),
        Patch(torch.optim.Adam, "_init_group", _steps_on_host(meter)),
        # On CUDA these treat all tensors at once, and so hold one temporary of each (torch/optim/adam.py,
        # `_foreach_sqrt`); on the CPU one after the other. torch.optim hides these modules behind its functions.
        Patch(importlib.import_module("torch.optim.adam"), "_default_to_fused_or_foreach", _foreach_by_default),
        Patch(importlib.import_module("torch.optim.sgd"), "_default_to_fused_or_foreach", _foreach_by_default),
        Patch(importlib.import_module("torch.optim.rmsprop"), "_default_to_fused_or_foreach", _foreach_by_default),
        Patch(importlib.import_module("torch.optim.adagrad"), "_default_to_fused_or_foreach", _foreach_by_default),
        Patch(importlib.import_module("torch.nn.utils.clip_grad"), "_has_foreach_support", lambda *_: True),
        # `_can_use_grouped_mm` would ask this machine for its card.
        Patch(moe, "_can_use_grouped_mm", lambda *_: (target.capability or (0, 0)) >= (8, 0)),
        *launches,
        *(read_on_host(meter) if is_group_wise(recipe) else ()),
    ]


def _fused_dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:  # noqa: A002, ARG001  # torch's own signature
    """CUDA drops in one kernel and saves a bool mask; the CPU saves a noise tensor in the input's dtype."""
    if not training or p == 0.0:
        return input
    dropped: torch.Tensor = torch.native_dropout(input, p, True)[0]
    return dropped


_SOFTMAX = functional.softmax


def _converting_softmax(
    input: torch.Tensor,  # noqa: A002  # torch's own signature
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """On CUDA float16 becomes float32 inside the kernel; the CPU, and bfloat16, are converted first.

    aten/src/ATen/native/SoftMax.cpp, softmax: `input_.is_cuda() && scalar_type() == Half && dtype == Float`.
    """
    if input.dtype is torch.float16 and dtype is torch.float32 and dim is not None:
        return torch._softmax(input, dim, True)
    return _SOFTMAX(input, dim, _stacklevel, dtype)


def _warmup_block(target: Target, meter: LiveMeter) -> Callable[..., None]:
    """transformers allocates one block of the whole model's size before loading and frees it into the cache."""

    def warm_up(model: Any, expanded_device_map: dict[str, Any], hf_quantizer: Any) -> None:
        totals = modeling.get_total_byte_count(model, expanded_device_map, hf_quantizer)
        size_bytes = int(sum(totals.values()) // 2) * 2
        if target.total_memory_bytes is not None:
            size_bytes = min(size_bytes, target.total_memory_bytes - _WARMUP_SPARES_BYTES)
        if size_bytes > 0:
            meter.transient(size_bytes, "caching_allocator_warmup")

    return warm_up


def _then_empty_cache(meter: LiveMeter) -> Callable[..., Any]:
    """peft empties the cache after the float32 casts, but only asks CUDA to (peft/utils/other.py)."""
    original: Any = peft.prepare_model_for_kbit_training

    def prepared(*args: Any, **kwargs: Any) -> Any:
        model = original(*args, **kwargs)
        meter.empty_cache()
        return model

    return prepared


def _made_on_host(meter: LiveMeter) -> Callable[..., None]:
    """peft makes A and B in host memory and then moves them (peft/tuners/lora/layer.py, update_layer)."""
    original: Any = LoraLayer.update_layer

    def update_layer(self: Any, *args: Any, **kwargs: Any) -> None:
        with meter.on_host():
            original(self, *args, **kwargs)

    return update_layer


def _moved_to_device(meter: LiveMeter) -> Callable[..., None]:
    """The move itself: from here on the adapter is device memory, cast or not."""
    original: Any = BaseTunerLayer._move_adapter_to_device_of_base_layer

    def move(self: Any, adapter_name: str, device: torch.device | None = None) -> None:
        meter.leave_host()
        original(self, adapter_name, device)
        for name in self.adapter_layer_names:
            layers = getattr(self, name, None)
            if isinstance(layers, torch.nn.ModuleDict) and adapter_name in layers:
                for parameter in layers[adapter_name].parameters():
                    meter.adopt(parameter)

    return move


def _paged_states(meter: LiveMeter) -> Callable[..., torch.Tensor]:
    """Large states of a paged optimizer are managed memory; the CPU fallback makes ordinary ones."""
    original: Any = bnb_optimizer.Optimizer8bit.get_state_buffer

    def get_state_buffer(self: Any, p: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        if self.is_paged and p.numel() >= _PAGED_FROM_ELEMENTS:
            with meter.on_host():
                return torch.zeros_like(p, dtype=dtype)
        buffer: torch.Tensor = original(self, p, dtype)
        return buffer

    return get_state_buffer


def _int8_product(  # noqa: PLR0913, PLR0917  # bitsandbytes' own signature
    A: torch.Tensor,  # noqa: N803  # its name there
    B: torch.Tensor,  # noqa: N803  # its name there
    out: torch.Tensor | None = None,
    state: Any = None,
    threshold: float = 0.0,
    bias: torch.Tensor | None = None,
) -> Any:
    """bitsandbytes/autograd/_functions.py, `matmul`: a CPU in training expands the weight, CUDA multiplies int8."""
    if threshold > 0:
        state.threshold = threshold
    return MatMul8bitLt.apply(A, B, out, bias, state)


def _steps_on_host(meter: LiveMeter) -> Callable[..., Any]:
    """Adam keeps its step counters on the host unless it is fused or capturable (torch/optim/adam.py)."""
    original: Any = torch.optim.Adam._init_group

    def init_group(self: Any, group: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if group["fused"] or group["capturable"]:
            return original(self, group, *args, **kwargs)
        with meter.on_host(scalars_only=True):
            return original(self, group, *args, **kwargs)

    return init_group


def _foreach_by_default(
    params: Any,  # noqa: ARG001  # torch's own signature
    differentiable: bool,  # noqa: ARG001  # torch's own signature
    use_fused: bool = False,
) -> tuple[bool, bool]:
    """What `_default_to_fused_or_foreach` answers for CUDA tensors: (fused, foreach)."""
    return use_fused, not use_fused
