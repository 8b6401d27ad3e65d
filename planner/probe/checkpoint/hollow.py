"""A hollow checkpoint: config.json, and safetensors files whose header is real and whose data is a hole in the file.

Memory does not depend on the values of weights, and a card that is not there keeps none. So `from_pretrained` runs its
own loader, threads and all, on a folder that takes some kilobytes on disk for any model.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import PretrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from planner.probe.checkpoint.header import StoredTensor, shards

# What `save_pretrained` of most checkpoints on the hub was told, and transformers' default until 5.0.
SHARD_BYTES = 5_000_000_000


def write_made_up(
    folder: Path, config: PretrainedConfig, tensors: Sequence[StoredTensor], shard_bytes: int = SHARD_BYTES
) -> None:
    """Fill `folder` with a checkpoint of `tensors` that `from_pretrained` loads, in files of some size."""
    parts = shards(tensors, shard_bytes)
    names = (
        [SAFE_WEIGHTS_NAME]
        if len(parts) == 1
        else [f"model-{number:05d}-of-{len(parts):05d}.safetensors" for number in range(1, len(parts) + 1)]
    )
    write_hollow_checkpoint(folder, config, dict(zip(names, parts, strict=True)))


def write_hollow_checkpoint(
    folder: Path, config: PretrainedConfig, files: Mapping[str, Sequence[StoredTensor]]
) -> None:
    """Fill `folder` with config.json and `files`: name to the tensors in it, in the order of their data."""
    config.save_pretrained(str(folder))
    for name, tensors in files.items():
        _write_file(folder / name, tensors)
    if set(files) != {SAFE_WEIGHTS_NAME}:
        where = {tensor.name: name for name, tensors in files.items() for tensor in tensors}
        total_bytes = sum(tensor.size_bytes for tensors in files.values() for tensor in tensors)
        index = {"metadata": {"total_size": total_bytes}, "weight_map": where}
        (folder / SAFE_WEIGHTS_INDEX_NAME).write_text(json.dumps(index), encoding="utf-8")


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
