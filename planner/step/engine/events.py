"""Symbolic sizes of tensors."""

from typing import NamedTuple


class Size(NamedTuple):
    """`ceil(num * product of dims / den)` bytes: `Size(2, ("T", "h"))` is a 16-bit hidden state."""

    num: int
    dims: tuple[str, ...]
    den: int = 1
