"""A hollow checkpoint: config.json, and safetensors files whose header is real and whose data is a hole in the file.

Memory does not depend on the values of weights, and a card that is not there keeps none. So `from_pretrained` runs its
own loader, threads and all, on a folder that takes some kilobytes on disk for any model.
"""

import json
import struct
from collections.abc import Sequence
from pathlib import Path

from transformers import PretrainedConfig

from planner.probe.checkpoint.header import StoredTensor, shards

# What `save_pretrained` of most checkpoints on the hub was told, and transformers' default until 5.0.
SHARD_BYTES = 5_000_000_000
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def write_hollow_checkpoint(
    folder: Path, config: PretrainedConfig, tensors: Sequence[StoredTensor], shard_bytes: int = SHARD_BYTES
) -> None:
    """Fill `folder` with a checkpoint of `tensors` that `from_pretrained` loads."""
    config.save_pretrained(str(folder))
    files = shards(tensors, shard_bytes)
    if len(files) == 1:
        _write_file(folder / _SINGLE, files[0])
        return
    where: dict[str, str] = {}
    for number, held in enumerate(files, 1):
        name = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        _write_file(folder / name, held)
        where |= {tensor.name: name for tensor in held}
    total_bytes = sum(tensor.size_bytes for tensor in tensors)
    index = {"metadata": {"total_size": total_bytes}, "weight_map": where}
    (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")


def _write_file(path: Path, tensors: Sequence[StoredTensor]) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.size_bytes
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        start = file.tell()
        file.truncate(start + offset)
        position = start
        for tensor in tensors:
            if tensor.content is not None:
                file.seek(position)
                file.write(tensor.content)
            position += tensor.size_bytes
