"""The allocation stream: what the live meter saw and the allocator replay reads."""

from typing import Literal, NamedTuple

Action = Literal["alloc", "free", "empty_cache", "phase"]


class Event(NamedTuple):
    """One thing that happened to device memory, in order.

    alloc:       block `block` of `size_bytes` (as asked, not rounded) was created by `label` (an operator's name).
    free:        block `block` went away.
    empty_cache: `torch.cuda.empty_cache()` was called.
    phase:       the phase `label` begins; the one before it ends.
    """

    action: Action
    block: int = 0
    size_bytes: int = 0
    label: str = ""
