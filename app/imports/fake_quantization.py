"""Axolotl's `qat`: planned as torchao prepares int4 weights under int8 activations, else named."""

from typing import Any

from app.imports.effects import QAT
from app.imports.rules import Reading

_PLANNED = {"int4", "torch.int4"}, {"int8", "torch.int8"}


def read_qat(reading: Reading) -> None:
    """Once the method is read. `fake_quant_after_n_steps` begins later, and the largest step has it.

    Source: axolotl utils/schemas/quantization.py, QATConfig: group_size 32, as the request's own default.
    """
    given = reading.config.get("qat")
    if not given:
        return
    asked: dict[str, Any] = given if isinstance(given, dict) else {}
    weights, activations = _PLANNED
    has_formula = str(asked.get("weight_dtype")) in weights and str(asked.get("activation_dtype")) in activations
    trains_all = reading.get("method") == "full" and not reading.config.get("rl")
    if not (has_formula and trains_all) or asked.get("quantize_embedding"):
        reading.leave_out("qat", QAT)
    else:
        reading.use("qat", "training.qat", {"group_size": asked["group_size"]} if asked.get("group_size") else {})
