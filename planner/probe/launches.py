"""Triton kernels without a device: the Python around them allocates, the launch itself is left out.

TRL's fused head and Liger are Triton kernels, which neither fake tensors nor a CPU can run. Their buffers are made by
torch before the launch (trl/kernels/chunked_logprob.py, liger_kernel/ops/*.py) and a Triton kernel allocates nothing
itself, so skipping the launch loses no byte.
"""

import importlib
from collections.abc import Callable
from typing import Any

import torch
import trl.trainer.utils as trl_utils
from triton.runtime.jit import KernelInterface
from trl.kernels import chunked_logprob

try:
    import liger_kernel.ops as liger_ops
except ImportError:  # Linux only
    liger_ops = None

from planner.probe.oncard import as_on_cuda
from planner.probe.patching import Patch
from planner.probe.target import Target

# Where liger_kernel/ops sizes or saves a buffer by "is this tensor on CUDA?", in the kernels its models are given.
ASKS_ABOUT_CUDA = {
    "fused_linear_cross_entropy": ("_can_use_mm_out", "fused_linear_cross_entropy_forward"),
    "fused_add_rms_norm": ("fused_add_rms_norm_backward",),
    "layer_norm": ("layer_norm_backward",),
    "rms_norm": ("rms_norm_backward",),
}


def unlaunched_kernels(target: Target) -> list[Patch]:
    """Patches that take the Triton paths of TRL and Liger and skip the launches."""
    patches = [
        Patch(KernelInterface, "__getitem__", lambda *_: _no_launch),
        # TRL takes its Triton path on CUDA only, and there accumulates with `addmm(out_dtype=float32)`, in place.
        Patch(trl_utils, "_use_triton", lambda _: True),
        Patch(chunked_logprob, "_use_triton", lambda _: True),
        Patch(chunked_logprob, "_addmm_fp32", lambda accumulator, a, b: None),  # noqa: ARG005  # TRL's signature
    ]
    if liger_ops is None:
        return patches
    capability, get_autocast_dtype = target.capability, torch.get_autocast_dtype
    return [
        *patches,
        *_asked_of_a_card(),
        Patch(torch.cuda, "get_device_capability", lambda *_: capability),
        Patch(torch.cuda, "get_device_properties", _properties_of(target)),
        # Autocast is the CPU's here; Liger asks for CUDA's.
        Patch(torch, "get_autocast_dtype", lambda kind: get_autocast_dtype("cpu" if kind == "cuda" else kind)),
    ]


def _asked_of_a_card() -> list[Patch]:
    """Each of `ASKS_ABOUT_CUDA`, as it runs on a card."""
    patches = []
    for name, functions in ASKS_ABOUT_CUDA.items():
        module = importlib.import_module(f"liger_kernel.ops.{name}")
        patches += [Patch(module, function, as_on_cuda(vars(module)[function])) for function in functions]
    return patches


def _no_launch(*_: Any, **__: Any) -> None:
    """What `kernel[grid]` returns: a launch that does not happen."""


def _properties_of(target: Target) -> Callable[..., Any]:
    class Properties:
        """The part of a device's properties that Liger sizes its buffers by."""

        multi_processor_count = target.multiprocessors
        major, minor = target.capability or (0, 0)

    return lambda *_: Properties
