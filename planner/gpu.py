"""A card as torch sees it."""

from dataclasses import dataclass
from typing import Literal

# An A100's: of a card that none of the catalogue is like.
_DEFAULT_MULTIPROCESSORS = 108


@dataclass(frozen=True, slots=True)
class Seen:
    """What runs of `runs` different settings showed of one figure: the lowest, the median and the highest."""

    runs: int
    low: float
    likely: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRecord:
    """Runs measured on one kind of card beside what was foreseen for each. None where no run told.

    `allocated` and `reserved` are measured over foreseen bytes, less one. `lost` is the allocator's smallest capacity
    over the allocated peak, less one, by how the allocator was used: (varying lengths, expandable segments, large
    pieces). `context_bytes` is what the process took outside the allocator.
    """

    allocated: Seen | None = None
    reserved: Seen | None = None
    context_bytes: Seen | None = None
    lost: tuple[tuple[tuple[bool, bool, bool], Seen], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One device. `usable_bytes` is `torch.cuda.get_device_properties(0).total_memory`, never the nominal size.

    `usable_evidence` is measured (a pasted torch total), modelled (derived from nvidia-smi's) or the caller's own.
    `bitsandbytes_4bit` says whether bitsandbytes lists the platform for 4-bit QLoRA. `context_bytes` is what the CUDA
    context and libraries took on a live card; None leaves it to the readings of its generation. `record` is what runs
    on such a card showed where this plan is made, if any were measured there. `half_flops` is the most 16-bit
    products and sums a second, accumulated in 32 bit, `bandwidth_bytes_s` the most bytes of its memory; None where no
    source tells. `multiprocessors` is a source's count, or that of the nearest card (planner/catalog/gpu_rows.py); None
    where no card is like it.
    """

    id: str
    name: str
    usable_bytes: int
    usable_evidence: Literal["measured", "modelled", "given"]
    usable_source: str
    compute_capability: tuple[int, int] | None
    multiprocessors: int | None = None
    nominal_gb: float | None = None
    vendor: str = "NVIDIA"
    bitsandbytes_4bit: bool = True
    context_bytes: int | None = None
    record: CardRecord | None = None
    half_flops: int | None = None
    bandwidth_bytes_s: int | None = None
    note: str = ""

    @property
    def native_bfloat16(self) -> bool:
        """Tensor cores multiply bfloat16 from compute capability 8.0 (CUDA C++ Programming Guide, table 21)."""
        return self.compute_capability is None or self.compute_capability >= (8, 0)


def multiprocessors(gpu: Gpu) -> int:
    """Streaming multiprocessors, which several kernels shape their work by."""
    return gpu.multiprocessors or _DEFAULT_MULTIPROCESSORS
