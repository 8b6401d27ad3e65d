"""Bytes are ints; GiB (2**30) exists only where people read, GB (10**9) only to quote the textbook."""

import re

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

# c10/core/AllocatorConfig.h, kMinBlockSize: the CUDA caching allocator hands out multiples of 512 bytes.
ALLOCATION_GRANULE_BYTES = 512

_SUFFIX_BYTES = {"b": 1, "kib": KIB, "mib": MIB, "gib": GIB, "kb": 10**3, "mb": 10**6, "gb": 10**9}
# No size has more digits; a number of hundreds is none that a float could hold.
_SIZE = re.compile(r"^\s*(\d{1,18}(?:\.\d{1,18})?)\s*([a-z]*)\s*$", re.IGNORECASE)


def ceil_div(dividend: int, divisor: int) -> int:
    """Integer division rounded up."""
    return -(-dividend // divisor)


def allocated(size_bytes: int) -> int:
    """Bytes the CUDA caching allocator counts for a tensor: up to the next 512, none for none."""
    return ceil_div(size_bytes, ALLOCATION_GRANULE_BYTES) * ALLOCATION_GRANULE_BYTES


def format_gib(size_bytes: int, digits: int = 2) -> str:
    """`'21.30 GiB'`, for people only."""
    return f"{size_bytes / GIB:.{digits}f} GiB"


def parse_size_bytes(text: str) -> int:
    """Read `24GiB`, `512 MiB`, `24GB` (decimal) or a bare byte count.

    Raises:
        ValueError: the text is no size; the message shows accepted spellings.
    """
    match = _SIZE.match(text)
    suffix_bytes = _SUFFIX_BYTES.get((match.group(2) or "b").lower()) if match else None
    if match is None or suffix_bytes is None:
        msg = f"{text[:60]!r} is not a size; write 24GiB, 512MiB, 24GB or a number of bytes"
        raise ValueError(msg)
    return int(float(match.group(1)) * suffix_bytes)
