"""What must change for hqq to quantize fake tensors, and to leave on a card only what it leaves there in life."""

import importlib
from typing import Any

import torch

from planner.probe import groupwise
from planner.probe.meters.live import LiveMeter
from planner.probe.patching import Patch

# The second iteration frees what the first one made, as every later one does; more would change nothing.
_STEADY_ITERATIONS = 2


def without_values() -> list[Patch]:
    """The solver asks "did the error fall?" after each iteration, which only values can answer."""
    return [Patch(importlib.import_module("hqq.core.quantize").Quantizer, "optimize_weights", _solve)]


@torch.inference_mode()
def _solve(  # noqa: PLR0913, PLR0917  # hqq's own signature
    tensor: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, min_max: list[int], axis: int = 0, device: Any = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """hqq/core/optimize.py `optimize_weights_proximal_legacy`, step for step, for a fixed number of iterations."""
    optimize: Any = importlib.import_module("hqq.core.optimize")
    there = torch.device(device)
    dtype = torch.float16 if there.type == "cuda" else torch.float32
    weight, scale, zero = (each.to(dtype=dtype, device=there) for each in (tensor, scale, zero))
    best_error = torch.tensor(torch.inf, dtype=torch.float32, device=there)
    for _ in range(_STEADY_ITERATIONS):
        restored, quantized, zero, scale = optimize.optimize_weights_proximal_legacy_step(
            weight, scale, zero, min_max, 1e1, 0.7, axis
        )
        best_error = torch.abs(weight - restored).mean().float()
    del weight, restored, quantized, best_error
    scale, zero = scale.to(tensor.device), zero.to(tensor.device)
    return torch.round(tensor * scale + zero).clamp_(min_max[0], min_max[1]), scale, zero


def read_on_host(meter: LiveMeter) -> list[Patch]:
    """The unquantized model is host memory in life, and nothing warms the card up for it."""
    original = groupwise.load

    def load(*args: Any) -> Any:
        with meter.on_host():
            model = original(*args)
        for tensor in groupwise.tensors_of(model):
            meter.adopt(tensor)
        return model

    modeling = importlib.import_module("transformers.modeling_utils")
    return [Patch(groupwise, "load", load), Patch(modeling, "caching_allocator_warmup", lambda *_: None)]
