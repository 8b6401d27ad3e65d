"""Which attention kernel runs, and what is done to keys and values for it.

Sources: transformers 5.23 integrations/sdpa_attention.py use_gqa_in_sdpa; torch 2.13
aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (flash: 16-bit, capability 8.0 or newer, head_dim to 256, no mask;
mem-efficient has no grouped form, so a grouped call that flash refuses falls to math).
"""

from typing import NamedTuple

from planner.timeline.switches import Kernel


class Choice(NamedTuple):
    """The kernel; whether a mask tensor reaches it; whether grouped keys and values are repeated first."""

    name: Kernel
    masked: bool
    expands: bool


def attention_kernel(
    *,
    implementation: str,
    pinned: str,
    element_bytes: int,
    head_dim: int,
    equal_widths: bool = True,
    grouped: bool,
    masked: bool,
    capability: tuple[int, int] | None,
) -> Choice:
    """The kernel for one kind of layer. `equal_widths`: values are as wide as keys, which flash asks for."""
    if implementation == "flash_attention_2":
        return Choice("flash_attention_2", False, False)
    if implementation == "eager":
        return Choice("eager", True, grouped)
    if masked:
        return Choice("mem_efficient" if pinned in {"auto", "mem_efficient"} else "math", True, grouped)
    if pinned == "auto":
        flash = element_bytes == 2 and head_dim <= 256 and (capability is None or capability >= (8, 0)) and equal_widths
        name: Kernel = "flash" if flash else "math" if grouped else "mem_efficient"
        return Choice(name, False, False)
    if pinned == "mem_efficient":
        return Choice("mem_efficient", False, grouped)
    return Choice("math" if pinned == "math" else "flash", False, False)
