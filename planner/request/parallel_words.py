"""How people write several cards, as the request's own fields: `2x3090`, `fsdp: full_shard`, under `training` too."""

import re
from collections.abc import Mapping
from typing import Any

from planner.request.parallel import MOST_CARDS, PLACEMENTS, ZERO_PRESETS, Fsdp, fsdp_of
from planner.units import parse_size_bytes

# "2x3090", "8 x h100", "4×a100": a count, then the card.
_COUNTED = re.compile(r"^\s*(\d{1,4})\s*[x×]\s*(?=\D|\d{3})(\S.*)$", re.IGNORECASE)
# TrainingArguments' own place for them.
_LIFTED = ("fsdp", "fsdp_config", "deepspeed", "ddp_bucket_cap_mb", "parallelism_config")


def counted_cards(name: str) -> tuple[int, str] | None:
    """`2x3090` as (2, "3090"); None where no count is written.

    Raises:
        ValueError: a count beyond what can be planned.
    """
    found = _COUNTED.match(name)
    if found is None:
        return None
    count = int(found.group(1))
    if not 1 <= count <= MOST_CARDS:
        msg = f"gpu: {count} cards; write 1 to {MOST_CARDS}"
        raise ValueError(msg)
    return count, found.group(2).strip()


def with_cards(data: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its cards counted and its strategy in sections of their own.

    Raises:
        ValueError: a word of `fsdp` that it does not have, a count that contradicts `gpus`.
    """
    document = dict(data)
    training = document.get("training")
    if isinstance(training, Mapping) and any(key in training for key in _LIFTED):
        document |= {key: training[key] for key in _LIFTED if key in training and key not in document}
        document["training"] = {key: value for key, value in training.items() if key not in _LIFTED}
    _count(document)
    _list_cards(document)
    _read_device_map(document)
    _read_fsdp(document)
    if isinstance(document.get("deepspeed"), str):
        if document["deepspeed"] not in ZERO_PRESETS:
            msg = f"deepspeed: write {', '.join(ZERO_PRESETS)}, or the configuration itself; no file is opened here"
            raise ValueError(msg)
        document["deepspeed"] = ZERO_PRESETS[document["deepspeed"]]
    _read_parallelism(document)
    cap = document.pop("ddp_bucket_cap_mb", None)
    if cap is not None:
        document["ddp"] = {"bucket_cap_mb": cap, **(document.get("ddp") or {})}
    return document


def _read_parallelism(document: dict[str, Any]) -> None:
    """DeepSpeed's own `sequence_parallel_size` is accelerate's `sp_size`; accelerate's file writes each key in full."""
    deepspeed, given = document.get("deepspeed"), document.get("parallelism_config")
    if isinstance(given, Mapping):
        document["parallelism_config"] = {
            str(key).removeprefix("parallelism_config_"): value for key, value in given.items()
        }
    if isinstance(deepspeed, Mapping) and "sequence_parallel_size" in deepspeed:
        document["deepspeed"] = {key: value for key, value in deepspeed.items() if key != "sequence_parallel_size"}
        size = {"sp_size": deepspeed["sequence_parallel_size"]}
        document["parallelism_config"] = {**size, **(document.get("parallelism_config") or {})}


def _count(document: dict[str, Any]) -> None:
    counted = counted_cards(document["gpu"]) if isinstance(document.get("gpu"), str) else None
    if counted is None:
        return
    count, document["gpu"] = counted
    if document.get("gpus", count) != count:
        msg = f"gpus: contradicts the {count} cards that gpu counts; keep one of the two"
        raise ValueError(msg)
    document["gpus"] = count


def _list_cards(document: dict[str, Any]) -> None:
    """`"gpus": ["rtx-3090", "rtx-4090"]`, or `gpu: "rtx-3090+rtx-4090"`, as the first card and all of them."""
    gpu, gpus = document.get("gpu"), document.get("gpus")
    names = list(gpus) if isinstance(gpus, list | tuple) else None
    if names is None and isinstance(gpu, str) and "+" in gpu:
        names = [name.strip() for name in gpu.split("+")]
        document["gpu"] = names[0]
    if names is None:
        return
    if not 1 <= len(names) <= MOST_CARDS or not all(isinstance(name, str) and name for name in names):
        msg = 'gpus: a list names each card, such as ["rtx-3090", "rtx-4090"]; or write how many there are'
        raise ValueError(msg)
    if isinstance(gpus, int) and gpus != len(names):
        msg = f"gpus: contradicts the {len(names)} cards that gpu names; keep one of the two"
        raise ValueError(msg)
    document["gpus"] = len(names)
    document.setdefault("gpu", names[0])
    if len(set(names)) > 1:
        document["cards"] = names


def _read_device_map(document: dict[str, Any]) -> None:
    """`device_map` with cards as numbers, and `max_memory` in bytes, without what it says of the host."""
    given = document.get("device_map")
    if isinstance(given, Mapping):
        document["device_map"] = {str(name): _card(name, device) for name, device in given.items()}
    elif isinstance(given, str) and given not in PLACEMENTS:
        msg = f"device_map: write {', '.join(PLACEMENTS)}, or a map of module names to cards"
        raise ValueError(msg)
    limits = document.get("max_memory")
    if isinstance(limits, str):
        limits = dict(part.partition("=")[::2] for part in limits.replace(":", "=").split(","))
        limits = {name.strip(): size for name, size in limits.items()}
    if isinstance(limits, Mapping):
        cards = {key: size for key, size in limits.items() if str(key) not in {"cpu", "disk"}}
        document["max_memory"] = {_card("max_memory", key): _size_bytes(size) for key, size in cards.items()}


def _card(name: object, device: object) -> int:
    """The number of a card, -1 for the host or a disk.

    Raises:
        ValueError: it is neither.
    """
    if device in ("cpu", "disk"):
        return -1
    if isinstance(device, int) and not isinstance(device, bool) and 0 <= device < MOST_CARDS:
        return device
    found = re.fullmatch(r"(?:cuda:)?(\d{1,4})", device) if isinstance(device, str) else None
    if found is None:
        msg = f"device_map: {str(name)[:60]} goes to {str(device)[:20]!r}; write a card's number, cpu or disk"
        raise ValueError(msg)
    return int(found.group(1))


def _size_bytes(size: object) -> int:
    """A number of bytes, or "20GiB" or "20 GB", as accelerate reads them.

    Source: accelerate 1.15 utils/modeling.py, convert_file_size_to_int.
    """
    if isinstance(size, int) and not isinstance(size, bool) and size >= 0:
        return size
    try:
        return parse_size_bytes(str(size))
    except ValueError as error:
        msg = f"max_memory: {error}"
        raise ValueError(msg) from None


def _read_fsdp(document: dict[str, Any]) -> None:
    """`fsdp` as a switch or as words, beside `fsdp_config`, which TrainingArguments reads only where `fsdp` is on."""
    config = document.pop("fsdp_config", None)
    if "fsdp" not in document or isinstance(document["fsdp"], (Mapping, Fsdp)):
        if config is not None and document.get("fsdp") is None:
            msg = "fsdp_config: is read only where fsdp is on; write fsdp: true beside it"
            raise ValueError(msg)
        if isinstance(config, Mapping):
            document["fsdp"] = {**document["fsdp"], **config}
        return
    words = fsdp_of(document["fsdp"])
    document["fsdp"] = None if words is None else {**words, **(config if isinstance(config, Mapping) else {})}
