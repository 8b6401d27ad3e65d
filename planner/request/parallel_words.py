"""How people write several cards, as the request's own fields: `2x3090`, `fsdp: full_shard`, under `training` too."""

import re
from collections.abc import Mapping
from typing import Any

from planner.request.parallel import MOST_CARDS, ZERO_PRESETS, Fsdp, fsdp_of

# "2x3090", "8 x h100", "4×a100": a count, then the card.
_COUNTED = re.compile(r"^\s*(\d{1,4})\s*[x×]\s*(?=\D|\d{3})(\S.*)$", re.IGNORECASE)
# TrainingArguments' own place for them.
_LIFTED = ("fsdp", "fsdp_config", "deepspeed", "ddp_bucket_cap_mb")


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
    _read_fsdp(document)
    if isinstance(document.get("deepspeed"), str):
        if document["deepspeed"] not in ZERO_PRESETS:
            msg = f"deepspeed: write {', '.join(ZERO_PRESETS)}, or the configuration itself; no file is opened here"
            raise ValueError(msg)
        document["deepspeed"] = ZERO_PRESETS[document["deepspeed"]]
    cap = document.pop("ddp_bucket_cap_mb", None)
    if cap is not None:
        document["ddp"] = {"bucket_cap_mb": cap, **(document.get("ddp") or {})}
    return document


def _count(document: dict[str, Any]) -> None:
    counted = counted_cards(document["gpu"]) if isinstance(document.get("gpu"), str) else None
    if counted is None:
        return
    count, document["gpu"] = counted
    if document.get("gpus", count) != count:
        msg = f"gpus: contradicts the {count} cards that gpu counts; keep one of the two"
        raise ValueError(msg)
    document["gpus"] = count


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
