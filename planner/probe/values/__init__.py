"""Values on a virtual card: whole numbers and booleans are true, floats are noise.

A virtual card runs torch's CUDA build unchanged while its kernels do nothing. Masks, ids, positions and counts decide
which shapes and kernels a program asks for next, so they must be right; what a float holds decides nothing about
memory. The rules stand in `rules.py`. This package imports torch and the standard library only and none of its
neighbours, so that its folder can be put beside any environment's torch (2.6 and later).
"""

from .left_as_noise import left_as_noise
from .overrides import install

__all__ = ["install", "left_as_noise"]
