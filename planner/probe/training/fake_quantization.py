"""Quantization-aware training as torchao prepares it. torchao is installed by who wants it."""

import importlib
from typing import Any

import torch

from planner.request.recipe import Recipe

PACKAGE = "torchao"


def fake_quantize(model: torch.nn.Module, recipe: Recipe) -> None:
    """`quantize_(model, QATConfig(…))`: each `nn.Linear` rounds its weight, and its input, in the forward pass."""
    asked = recipe.training.qat
    if asked is None:
        return
    quantization: Any = importlib.import_module("torchao.quantization")  # asked for before, in refusals.py
    qat: Any = importlib.import_module("torchao.quantization.qat")
    int4: Any = vars(torch)["int4"]  # torch's stubs do not have it
    weights = qat.IntxFakeQuantizeConfig(int4, group_size=asked.group_size, is_symmetric=True)
    inputs = qat.IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)
    quantization.quantize_(model, qat.QATConfig(activation_config=inputs, weight_config=weights, step="prepare"))
