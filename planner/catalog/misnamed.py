"""What people write in a card's place: several cards, a size of memory, a rented machine, another maker's device."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from planner.catalog.machines import what_is_in
from planner.catalog.names import normal_form

# Beside a card's name these say nothing that its name does not.
_NOISE = re.compile(r"\b(gddr\d\w?|hbm\d\w?|vram|memory|gpu|card)\b", re.IGNORECASE)
_MEMORY = re.compile(r"^(\d+)gi?b$")
_TIMES = "x\u00d7*"
_SEVERAL = (
    re.compile(rf"^\s*(?P<count>\d{{1,3}})\s*[{_TIMES}]\s*(?P<card>.+)$", re.IGNORECASE),
    re.compile(rf"^(?P<card>.+?)\s*[{_TIMES}]\s*(?P<count>\d{{1,3}})\s*$", re.IGNORECASE),
    re.compile(r"^\s*(?P<count>dual|two|four|eight)\s+(?P<card>.+)$", re.IGNORECASE),
)

# What names no machine with a known card, but a lender of many, or boards whose memory is not the card's alone.
_OTHERS = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (
            r"\b(runpod|vast|lambda|paperspace|modal|lightning|gcp|aws|azure|sagemaker|vertex)\b",
            "a lender of many kinds of cards: name the one that nvidia-smi shows",
        ),
        (
            r"\b(jetson|orin|thor)\b",
            "not supported, because its memory is shared with the system, and no source says what of it torch gets",
        ),
    )
)
_MAKERS = (
    (
        re.compile(r"\b(apple|macbook|imac|mac|mps|m[1-5]( (pro|max|ultra))?)\b"),
        "Apple's chips are not supported, because bitsandbytes has no 4-bit CUDA path there and their memory is shared "
        "with the system",
    ),
    (
        re.compile(r"\b(intel|arc|gaudi ?\d?|xpu|max 1\d{3})\b"),
        "Intel's devices are not supported, because torch allocates on them through another runtime than CUDA",
    ),
    (
        re.compile(r"\b(radeon|rx|amd|strix|instinct)\b"),
        "Of AMD's cards mi210, mi250x, mi300x and mi325x are known; Radeon is not supported, because no source says "
        "what torch gets on one",
    ),
    (re.compile(r"\b(tpu|trainium|inferentia|cpu|npu)\b"), "Not supported, because only the memory of GPUs is planned"),
)


@dataclass(frozen=True, slots=True)
class Known:
    """A card that a plan can be made for: its id and the gigabytes it is sold with."""

    id: str
    nominal_gb: int | None


Find = Callable[[str], Known | None]


def with_its_memory(name: str, find: Find) -> Known | None:
    """The card in `"RTX 4090 24GB"`: a card's name beside the very memory that it is sold with, and words like VRAM."""
    card, sizes = _apart(name)
    known = find(card) if card and card != normal_form(name) else None
    return known if known and sizes <= {known.nominal_gb} else None


def explained(name: str, cards: Iterable[Known], find: Find) -> str | None:
    """What to write instead, or why there is nothing; None where the name is merely unknown."""
    form = normal_form(name)
    if several := _several(name, find):
        return several
    if machine := what_is_in(form):
        return machine
    for maker, why in (*_OTHERS, *_MAKERS):
        if maker.search(form):
            return why
    return _of_that_size(name, list(cards), find)


def _several(name: str, find: Find) -> str | None:
    for pattern in _SEVERAL:
        if match := pattern.match(name):
            known = find(match["card"]) or with_its_memory(match["card"], find)
            if known:
                return f"a run is planned on one card; unsharded, each of several needs the same: ask for {known.id}"
    return None


def _of_that_size(name: str, cards: list[Known], find: Find) -> str | None:
    """Cards of a size, where nothing else or another card's name is said."""
    card, sizes = _apart(name)
    if not sizes:
        return None
    size = min(sizes)
    if not card:
        of_size = [known.id for known in cards if known.nominal_gb == size]
        return f"cards with {size} GB: {', '.join(of_size)}; name one" if of_size else None
    known = find(card)
    return f"{known.id} is sold with {known.nominal_gb} GB, not {size}; ask for {known.id}" if known else None


def _apart(name: str) -> tuple[str, set[int]]:
    """The words that may name a card, and the sizes of memory beside them."""
    words = normal_form(_NOISE.sub(" ", name)).split()
    sizes = {int(match[1]) for word in words if (match := _MEMORY.match(word))}
    return " ".join(word for word in words if not _MEMORY.match(word)), sizes
