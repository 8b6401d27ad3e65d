"""Which attention kernel runs, and what is done to keys and values for it.

Sources: transformers 5.23 integrations/sdpa_attention.py use_gqa_in_sdpa; torch 2.13
aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (flash: 16-bit, capability 8.0 or newer, head_dim to 256, no mask;
mem-efficient has no grouped form, so a grouped call that flash refuses falls to math).
"""

from typing import NamedTuple

from planner.gpu import Gpu
from planner.step.switches import Kernel

# Columns of a head that flash takes (sdp_utils.cpp, check_head_dim_size_flash).
_WIDEST = 256
# check_requires_grad_and_head_dim_gt192_constraints_on_sm86_89_or_120: above the first, up to the second.
_UNTRAINED = (192, 224)
# cuDNN's: majors of the compute capabilities that prefer it; widths of keys and values.
_CUDNN_FIRST = (9, 10)
_CUDNN_STEP, _CUDNN_WIDEST = 8, 128
_CUDNN_WIDE_PAIRS = ((192, 128), (256, 256))


class Choice(NamedTuple):
    """The kernel; whether a mask tensor reaches it; whether grouped keys and values are repeated first."""

    name: Kernel
    masked: bool
    expands: bool


class Asked(NamedTuple):
    """One kind of layer's attention: what the recipe says, the dtype and shapes that reach it, and the card.

    `equal_widths`: values are as wide as keys, which flash asks for. `always_masked`: its code passes a mask of its
    own and repeats nothing.
    """

    implementation: str
    pinned: str
    dtype: str
    head_dim: int
    value_dim: int
    equal_widths: bool
    grouped: bool
    masked: bool
    always_masked: bool
    gpu: Gpu


def attention_kernel(asked: Asked) -> Choice:
    """The first kernel of torch's order of preference that takes these tensors."""
    grouped = asked.grouped and not asked.always_masked
    # use_gqa_in_sdpa: the kernel is left to spread the heads only where it may be flash.
    too_wide = grouped and (asked.head_dim > _WIDEST or not asked.equal_widths)
    if asked.implementation == "flash_attention_2":
        return Choice("flash_attention_2", False, False)
    if asked.implementation == "eager":
        return Choice("eager", True, grouped)
    efficient: Kernel = "mem_efficient" if _mem_efficient_takes(asked) else "math"
    if asked.masked or asked.always_masked:
        takes_masks = asked.pinned in {"auto", "mem_efficient"}
        return Choice("cudnn" if _is_cudnn(asked) else efficient if takes_masks else "math", True, grouped)
    if asked.pinned == "mem_efficient":
        return Choice(efficient, False, grouped)
    if _is_cudnn(asked):
        return Choice("cudnn", False, too_wide)
    if asked.pinned == "auto":
        # torch 2.14's memory-efficient kernel takes grouped keys as they are.
        name: Kernel = "flash" if _flash_takes(asked) else efficient
    else:
        name = "math" if asked.pinned == "math" else "flash"
    return Choice(name, False, too_wide)


def _is_cudnn(asked: Asked) -> bool:
    """16-bit, widths to 128 in eights; on 9.x and 10.x, where torch tries it first, two pairs of wider ones.

    check_prefer_cudnn_attention, check_cudnn_tensor_shapes, check_cudnn_d256_bprop_head_dim, with cuDNN 9.24.
    """
    capability, widths = asked.gpu.compute_capability or (8, 0), (asked.head_dim, asked.value_dim)
    preferred = capability[0] in _CUDNN_FIRST
    if asked.pinned != "cudnn" and not (asked.pinned == "auto" and preferred):
        return False
    if asked.dtype == "float32" or capability < (8, 0) or any(width % _CUDNN_STEP for width in widths):
        return False
    return max(widths) <= _CUDNN_WIDEST or (preferred and widths in _CUDNN_WIDE_PAIRS)


def _flash_takes(asked: Asked) -> bool:
    """16-bit, equal widths to 256, from capability 8.0; the small 8.x and 12.x do not train at 193 to 224."""
    if asked.dtype == "float32" or not asked.equal_widths or asked.head_dim > _WIDEST:
        return False
    capability = asked.gpu.compute_capability or (8, 0)
    small = (8, 6) <= capability <= (8, 9) or (12, 0) <= capability <= (12, 1)
    return capability >= (8, 0) and not (small and _UNTRAINED[0] < asked.head_dim <= _UNTRAINED[1])


def _mem_efficient_takes(asked: Asked) -> bool:
    """bfloat16 only from compute capability 8.0 (sdp_utils.cpp, check_tensor_dtype)."""
    capability = asked.gpu.compute_capability
    return asked.dtype != "bfloat16" or capability is None or capability >= (8, 0)
