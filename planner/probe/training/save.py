"""Save phase: the adapters go to a temporary folder, are read back and compared, and the folder goes away."""

from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file

from planner.probe.processes.lifecycle import temporary_folder

_ADAPTER_FILE = "adapter_model.safetensors"


class AdapterSaveError(RuntimeError):
    """The saved adapters are not the trained ones."""


def save_and_verify(model: Any, *, values: bool = True) -> int:
    """Save `model`'s adapters, load them back, and return how many tensors were verified: by name, and by `values`.

    Embeddings are left out: "auto" asks the hub whether the vocabulary changed.
    A model without adapters (full fine-tuning) is not written; 0 then. Run it outside a dispatch mode: the copies it
    makes are host memory in life.

    Raises:
        AdapterSaveError: a tensor is missing or differs.
    """
    if not isinstance(model, PeftModel):
        return 0
    trained = get_peft_model_state_dict(model, save_embedding_layers=False)
    with temporary_folder() as folder:
        model.save_pretrained(str(folder), save_embedding_layers=False)
        saved = load_file(folder / _ADAPTER_FILE)
    if saved.keys() != trained.keys():
        msg = f"saved {len(saved)} adapter tensors, trained {len(trained)}"
        raise AdapterSaveError(msg)
    if not values:
        return len(saved)
    different = [name for name, tensor in trained.items() if not torch.equal(saved[name], tensor.cpu())]
    if different:
        msg = f"{len(different)} saved adapter tensors differ from the trained ones, first {different[0]}"
        raise AdapterSaveError(msg)
    return len(saved)
