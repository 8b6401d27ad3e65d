"""What torch's sum over rows takes beside its result: where rows are many, blocks leave partial sums in memory.

Source: torch 2.14 include/ATen/native/cuda/Reduce.cuh, setReduceConfig, global_memory_size and semaphore_size, for a
contiguous matrix whose last dimension stays. Error: beyond 2^31 bytes torch cuts the matrix, and sums less at a time.
"""

from math import prod
from typing import NamedTuple

from planner.units import allocated, ceil_div

_SUM_BYTES = 4
_MATRIX = 2
_MOST_THREADS = 512  # mnt_wrapper, MAX_NUM_THREADS
_WARP = 32
_LEAST_VALUES, _MOST_VALUES = 16, 256  # of a thread
# What one multiprocessor holds (CUDA C++ Programming Guide, technical specifications per compute capability).
_THREADS_OF_MULTIPROCESSOR = {(7, 5): 1024, (8, 6): 1536, (8, 7): 1536, (8, 9): 1536, (12, 0): 1536, (12, 1): 1536}
_THREADS = 2048


class Partial(NamedTuple):
    """float32 sums of all blocks, and one int32 for each column of blocks that tells the last one; 0 where none is."""

    elements: int
    semaphores: int


class Summing(NamedTuple):
    """What of a card decides how it sums up."""

    multiprocessors: int
    capability: tuple[int, int] | None

    def column_means_bytes(self, shape: tuple[int, ...]) -> int:
        """What the means of a float32 matrix's columns take while they are made, themselves included.

        Of a stack of matrices the means alone: its sums have a row of blocks for each matrix, which is not followed.
        """
        means_bytes = allocated(_SUM_BYTES * prod((*shape[:-2], shape[-1])))
        if len(shape) > _MATRIX:
            return means_bytes
        rows, columns = shape
        partial = partial_sums(rows, columns, self.multiprocessors, self.capability)
        return means_bytes + allocated(_SUM_BYTES * partial.elements) + allocated(_SUM_BYTES * partial.semaphores)


def partial_sums(rows: int, columns: int, multiprocessors: int, capability: tuple[int, int] | None) -> Partial:
    """Of a matrix of `rows` and `columns`, summed over its rows, whatever its dtype."""
    vector = 4 if columns % 4 == 0 else 2 if columns % 2 == 0 else 1
    most = _MOST_THREADS // vector
    across, down = (min(_power_of_two_below(size), most) for size in (columns // vector, rows))
    width = min(across, _WARP)
    height = min(down, most // width)
    width = min(across, most // height)
    if rows < min(height * _LEAST_VALUES, _MOST_VALUES):
        return Partial(0, 0)
    values, grid = ceil_div(rows, height), ceil_div(columns // vector, width)
    threads = _THREADS_OF_MULTIPROCESSOR.get(capability or (8, 0), _THREADS)
    target = multiprocessors * (threads // (width * height))
    if values < _MOST_VALUES or grid > target:
        return Partial(0, 0)
    least, enough = ceil_div(values, _MOST_VALUES), ceil_div(values, _LEAST_VALUES)
    blocks = min(max(ceil_div(target, grid), least), enough)
    return Partial(columns * blocks * width * vector, grid) if blocks > 1 else Partial(0, 0)


def _power_of_two_below(size: int) -> int:
    return 1 << (size.bit_length() - 1)
