"""What people write in a card's place: several cards, a size of memory, a rented machine, another maker's device."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

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

# Rented machines and what is in them, as their own pages say: Colab's and Kaggle's FAQ, AWS EC2 instance types.
_MACHINES = {
    "colab": "Colab lends t4 (free tier), l4 or a100-sxm-40gb: name the one that nvidia-smi shows",
    "kaggle": "Kaggle lends p100-16gb, or two t4, of which a run without sharding uses one: name one of them",
    "g4dn": "AWS g4dn has t4", "g5": "AWS g5 has a10g", "g6": "AWS g6 has l4", "g6e": "AWS g6e has l40s",
    "p3": "AWS p3 has v100-16gb", "p4d": "AWS p4d has a100-sxm-40gb", "p4de": "AWS p4de has a100-sxm-80gb",
    "p5": "AWS p5 has h100-sxm-80gb", "p5e": "AWS p5e has h200",
}  # fmt: skip
# The same by patterns: Google Compute Engine's accelerator-optimized machines, Azure's NC, ND and NV sizes.
_RENTED = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (r"\ba2 highgpu\b", "Google's a2-highgpu has a100-sxm-40gb"),
        (r"\ba2 ultragpu\b", "Google's a2-ultragpu has a100-sxm-80gb"),
        (r"\ba3 (highgpu|megagpu|edgegpu)\b", "Google's a3-highgpu and a3-megagpu have h100-sxm-80gb"),
        (r"\ba3 ultragpu\b", "Google's a3-ultragpu has h200"),
        (r"\ba4 highgpu\b", "Google's a4-highgpu has b200"),
        (r"\bg2 standard\b", "Google's g2-standard has l4"),
        (r"\bnc \d+ads a100 v4\b", "Azure's NC A100 v4 has a100-pcie-80gb"),
        (r"\bnd 96asr( a100)? v4\b", "Azure's ND96asr v4 has a100-sxm-40gb"),
        (r"\bnd 96amsr a100 v4\b", "Azure's ND96amsr A100 v4 has a100-sxm-80gb"),
        (r"\bnc \d+adi?s h100 v5\b", "Azure's NC H100 v5 has h100-nvl-94gb"),
        (r"\bnd 96isr h100 v5\b", "Azure's ND H100 v5 has h100-sxm-80gb"),
        (r"\bnd 96isr h200 v5\b", "Azure's ND H200 v5 has h200"),
        (r"\bnc \d+as t4 v3\b", "Azure's NC T4 v3 has t4"),
        (r"\bnv \d+adm?s a10 v5\b", "Azure's NVads A10 v5 has a10, below NV36 a part of one"),
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
    for word, what in _MACHINES.items():
        if word in form.replace(".", " ").split():
            return what
    for maker, why in (*_RENTED, *_MAKERS):
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
