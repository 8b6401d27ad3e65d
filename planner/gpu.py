"""A card as torch sees it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One device. `usable_bytes` is `torch.cuda.get_device_properties(0).total_memory`, never the nominal size.

    `usable_evidence` is measured (a pasted torch total), modelled (derived from nvidia-smi's) or the caller's own.
    `bitsandbytes_4bit` says whether bitsandbytes lists the platform for 4-bit QLoRA. `context_bytes` is what the CUDA
    context and libraries took on a live card; None leaves it to the readings of its generation.
    """

    id: str
    name: str
    usable_bytes: int
    usable_evidence: Literal["measured", "modelled", "given"]
    usable_source: str
    compute_capability: tuple[int, int] | None
    nominal_gb: float | None = None
    vendor: str = "NVIDIA"
    bitsandbytes_4bit: bool = True
    context_bytes: int | None = None
    note: str = ""

    @property
    def native_bfloat16(self) -> bool:
        """Tensor cores multiply bfloat16 from compute capability 8.0 (CUDA C++ Programming Guide, table 21)."""
        return self.compute_capability is None or self.compute_capability >= (8, 0)
