"""Optimizers by their classes, as torchtune and LitGPT name them, in transformers' words."""

from typing import Any

_NAMES = {
    "AdamW": "adamw_torch", "Adam": "adamw_torch", "SGD": "sgd", "Adafactor": "adafactor",
    "PagedAdamW8bit": "paged_adamw_8bit", "PagedAdamW": "paged_adamw_32bit", "AdamW8bit": "adamw_8bit",
    "AdamW4bit": "adamw_torch_4bit", "CPUOffloadOptimizer": "adamw_torch",
}  # fmt: skip


def last_part(value: Any) -> str:
    """`torch.optim.AdamW` without where it stands."""
    return str(value).rpartition(".")[2]


def optimizer_name(value: Any) -> str:
    """The optimizer's name, or the class's own where transformers has none for it."""
    name = last_part(value)
    return _NAMES.get(name, name)
