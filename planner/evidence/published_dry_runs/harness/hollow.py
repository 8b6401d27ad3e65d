"""A hollow checkpoint: config.json and a safetensors file whose header is real and whose data is a hole in the file.

`from_pretrained` loads it like any other; it takes some kilobytes of disk.
"""

import json
import struct
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

_NAMES = {torch.float16: "F16", torch.bfloat16: "BF16"}


def hollow_checkpoint(folder: Path, config: dict[str, Any], dtype: torch.dtype) -> Path:
    """The folder, filled when it is empty.

    `dtype` is the one the harness loads with. The published checkpoints hold bfloat16; casting happens in the host's
    memory, before the card is asked for a byte, so a header in the loaded dtype only spares the cast.
    """
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    settled = AutoConfig.for_model(**config)
    settled.dtype = dtype
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(settled, dtype=dtype)
    settled.architectures = [type(model).__name__]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    tied = {"lm_head.weight"} if settled.tie_word_embeddings else set()
    for name, tensor in model.state_dict().items():
        if name in tied:
            continue
        start, end = end, end + tensor.numel() * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    settled.save_pretrained(folder)
    return folder
