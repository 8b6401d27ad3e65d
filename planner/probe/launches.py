"""Triton kernels without a device: the Python around them allocates, the launch itself is left out.

TRL's fused head and Liger are Triton kernels, which neither fake tensors nor a CPU can run. Their buffers are made by
torch before the launch (trl/kernels/chunked_logprob.py, liger_kernel/ops/*.py) and a Triton kernel allocates nothing
itself, so skipping the launch loses no byte.
"""

from collections.abc import Callable
from typing import Any

import torch
import trl.trainer.utils as trl_utils
from triton.runtime.jit import KernelInterface
from trl.kernels import chunked_logprob

try:
    import liger_kernel.ops.fused_linear_cross_entropy as liger_loss
except ImportError:  # Linux only
    liger_loss = None

from planner.probe.patching import Patch
from planner.probe.target import Target


def unlaunched_kernels(target: Target) -> list[Patch]:
    """Patches that take the Triton paths of TRL and Liger and skip the launches."""
    patches = [
        Patch(KernelInterface, "__getitem__", lambda *_: _no_launch),
        # TRL takes its Triton path on CUDA only, and there accumulates with `addmm(out_dtype=float32)`, in place.
        Patch(trl_utils, "_use_triton", lambda _: True),
        Patch(chunked_logprob, "_use_triton", lambda _: True),
        Patch(chunked_logprob, "_addmm_fp32", lambda accumulator, a, b: None),  # noqa: ARG005  # TRL's signature
    ]
    if liger_loss is None:
        return patches
    return [
        *patches,
        Patch(liger_loss, "_can_use_mm_out", _products_in_place),
        Patch(torch.cuda, "get_device_properties", _properties_of(target)),
    ]


def _no_launch(*_: Any, **__: Any) -> None:
    """What `kernel[grid]` returns: a launch that does not happen."""


def _products_in_place(hidden: torch.Tensor, weight: torch.Tensor) -> bool:
    """liger_kernel/ops/fused_linear_cross_entropy.py, `_can_use_mm_out`, its question about the device answered."""
    if torch.is_grad_enabled() or hidden.dtype != weight.dtype:
        return False
    return not torch.is_autocast_enabled("cpu") or hidden.dtype == torch.get_autocast_dtype("cpu")


def _properties_of(target: Target) -> Callable[..., Any]:
    class Properties:
        """The part of a device's properties that Liger sizes its buffers by."""

        multi_processor_count = target.multiprocessors
        major, minor = target.capability or (0, 0)

    return lambda *_: Properties
