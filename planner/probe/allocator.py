"""The allocator model is plain arithmetic and lives in the core, which plays the loader through it."""

from planner.allocator import (
    HIGHEST_ADDRESS,
    LARGE_SEGMENT_BYTES,
    MIN_BLOCK_BYTES,
    MIN_LARGE_BYTES,
    ROUND_LARGE_BYTES,
    SMALL_SEGMENT_BYTES,
    SMALL_SIZE_BYTES,
    Block,
    CachingAllocator,
    OutOfDeviceMemoryError,
    Pool,
    absorb,
    insert_after,
    segment_bytes,
)

__all__ = [
    "HIGHEST_ADDRESS", "LARGE_SEGMENT_BYTES", "MIN_BLOCK_BYTES", "MIN_LARGE_BYTES", "ROUND_LARGE_BYTES",
    "SMALL_SEGMENT_BYTES", "SMALL_SIZE_BYTES", "Block", "CachingAllocator", "OutOfDeviceMemoryError", "Pool", "absorb",
    "insert_after", "segment_bytes",
]  # fmt: skip
