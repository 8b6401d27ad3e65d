"""One virtual card: a row of the catalogue, or a card that a request describes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from planner.catalog.gpu_rows import custom_gpu, gpu_catalog
from planner.gpu import Gpu
from planner.overheads.table import context_band
from planner.probe.card.refusal import VirtualCardError
from planner.request.schema import CustomGpu
from planner.units import KIB


@dataclass(frozen=True, slots=True)
class Multiprocessor:
    """What one multiprocessor holds."""

    threads: int
    blocks: int
    shared_bytes: int
    shared_bytes_per_block: int


# CUDA C++ Programming Guide, "Compute Capabilities", technical specifications per compute capability. A block may ask
# for all shared memory of a multiprocessor less the 1 KiB that the system keeps (from 8.0 on).
_MULTIPROCESSORS = {
    (7, 0): Multiprocessor(2048, 32, 96 * KIB, 96 * KIB),
    (7, 5): Multiprocessor(1024, 16, 64 * KIB, 64 * KIB),
    (8, 0): Multiprocessor(2048, 32, 164 * KIB, 163 * KIB),
    (8, 6): Multiprocessor(1536, 16, 100 * KIB, 99 * KIB),
    (8, 9): Multiprocessor(1536, 24, 100 * KIB, 99 * KIB),
    (9, 0): Multiprocessor(2048, 32, 228 * KIB, 227 * KIB),
    (10, 0): Multiprocessor(2048, 32, 228 * KIB, 227 * KIB),
    (10, 3): Multiprocessor(2048, 32, 228 * KIB, 227 * KIB),
    (12, 0): Multiprocessor(1536, 24, 100 * KIB, 99 * KIB),
    (12, 1): Multiprocessor(1536, 24, 100 * KIB, 99 * KIB),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSpec:
    """A card as programs see it. `total_bytes` is torch's total; `context_bytes` lies outside torch's allocator."""

    name: str
    compute_capability: tuple[int, int]
    total_bytes: int
    context_bytes: int
    multiprocessors: int
    multiprocessor: Multiprocessor

    def limited(self, memory_limit_bytes: int | None) -> "CardSpec":
        """The same card with less memory; a limit above what it has changes nothing."""
        return replace(self, total_bytes=min(self.total_bytes, memory_limit_bytes or self.total_bytes))

    @property
    def text(self) -> str:
        """As the C side reads it."""
        major, minor = self.compute_capability
        fields = {
            "name": "".join(" " if mark in ";|=" else mark for mark in self.name),
            "capability": f"{major}.{minor}",
            "total_bytes": self.total_bytes,
            "context_bytes": self.context_bytes,
            "multiprocessors": self.multiprocessors,
            "threads_per_multiprocessor": self.multiprocessor.threads,
            "blocks_per_multiprocessor": self.multiprocessor.blocks,
            "shared_bytes_per_multiprocessor": self.multiprocessor.shared_bytes,
            "shared_bytes_per_block_optin": self.multiprocessor.shared_bytes_per_block,
        }
        return ";".join(f"{key}={value}" for key, value in fields.items())


def cards_text(cards: Iterable[CardSpec]) -> str:
    """Several cards as the C side reads them; equal ones in a row once, as Linux limits a variable to 128 KiB."""
    rows = [(text, sum(1 for _ in same)) for text, same in groupby(card.text for card in cards)]
    return "|".join(text if count == 1 else f"count={count};{text}" for text, count in rows)


def card_of(gpu: str | CustomGpu) -> CardSpec:
    """The virtual card for a name of the catalogue or a card of the request.

    Raises:
        UnknownGpuError: nothing answers to the name.
        VirtualCardError: no CUDA card, or one whose memory no source states.
    """
    if isinstance(gpu, CustomGpu):
        given = custom_gpu(gpu)
        return _spec(given, given.name)
    card = gpu_catalog().find(gpu)
    if card.gpu is None or card.row.vendor != "NVIDIA":
        raise VirtualCardError(
            f"{card.row.name} cannot be a virtual card: no source says how much memory CUDA programs get on it. Give "
            '{"total_memory_bytes": ..., "compute_capability": "8.9"} instead.'
        )
    return _spec(card.gpu, card.row.name)


def _spec(gpu: Gpu, name: str) -> CardSpec:
    capability = gpu.compute_capability
    known = _MULTIPROCESSORS.get(capability) if capability else None
    if capability is None or known is None or gpu.multiprocessors is None:
        able = ", ".join(f"{major}.{minor}" for major, minor in _MULTIPROCESSORS)
        raise VirtualCardError(
            f"There is no virtual card of compute capability {_text(capability)}; use one of {able}."
        )
    return CardSpec(
        name=name,
        compute_capability=capability,
        total_bytes=gpu.usable_bytes,
        context_bytes=gpu.context_bytes or int(context_band(capability).likely),
        multiprocessors=gpu.multiprocessors,
        multiprocessor=known,
    )


def _text(capability: tuple[int, int] | None) -> str:
    return ".".join(map(str, capability)) if capability else "unknown"


def cards_of(gpus: Sequence[str | CustomGpu], memory_limit_bytes: int | None = None) -> tuple[CardSpec, ...]:
    """Several cards, unlike ones too, each with the same limit."""
    return tuple(card_of(gpu).limited(memory_limit_bytes) for gpu in gpus)
