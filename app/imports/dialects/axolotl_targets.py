"""Axolotl's LoRA targets, as loaders/adapter.py and utils/schemas/peft.py of axolotl-ai-cloud/axolotl read them."""

import re
from typing import Any

from app.imports.adapters.linear_targets import linear_targets, with_linear_layers
from app.imports.effects import Effect
from app.imports.rules import Ignored, Reading, listed
from planner.tensors.modules import LINEAR_NAMES

_KERNELS = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel")
# Names of embeddings and output heads, which lora_target_linear does not reach.
_NO_LAYER = re.compile(r"embed|head|wte|wpe")
_JOINED = Effect("adapts an embedding or the output head beside the linear layers; planned without")


def put_targets(reading: Reading) -> None:
    """What Axolotl adapts: the list, a pattern, or every linear layer and the list."""
    config = reading.config
    if reading.document.get("method") == "full":
        return
    if reading.on("lora_target_linear"):
        _linear_targets(reading, listed(config.get("lora_target_modules") or []))
    elif not config.get("lora_target_modules"):
        reading.contradict("lora_target_modules", "missing; name the modules, or set lora_target_linear: true")
    if not config.get("lora_r"):
        reading.contradict("lora_r", "missing; Axolotl has no default rank")
    if not config.get("lora_dropout") and all(config.get(kernel) is None for kernel in _KERNELS):
        kernels = "planned without the fused LoRA kernels that Axolotl then turns on by itself, and which need less"
        reading.assume("lora.lora_dropout", 0.0, kernels)


def _linear_targets(reading: Reading, beside: Any) -> None:
    """Every linear layer; a list beside the switch is joined to it (loaders/adapter.py), embeddings and all."""
    model = reading.config.get("base_model")
    # Axolotl lists the names, of which PEFT can choose layers.
    chosen = reading.config.get("peft_layers_to_transform") is not None
    reading.use("lora_target_linear", "lora.target_modules", LINEAR_NAMES if chosen else linear_targets(model))
    if not beside:
        return
    names, everything = with_linear_layers(model, beside), with_linear_layers(model, [])
    if names is None and _NO_LAYER.search(str(beside)):
        reading.leave_out("lora_target_modules", _JOINED)
    elif names == everything:
        why = "joined to lora_target_linear: true, which has every linear layer already"
        reading.ignored.append(Ignored("lora_target_modules", why))
    else:
        reading.use("lora_target_modules", "lora.target_modules", names)
