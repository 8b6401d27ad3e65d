"""What a walk writes down: symbolic sizes, and when tensors of them come and go."""

from typing import NamedTuple


class Size(NamedTuple):
    """`ceil(num * product of dims / den)` bytes: `Size(2, ("T", "h"))` is a 16-bit hidden state."""

    num: int
    dims: tuple[str, ...]
    den: int = 1


class Event(NamedTuple):
    """One allocation (sign +1) or free (sign -1) of `size` under the line `tag`; `born` is where it was allocated."""

    sign: int
    size: Size
    tag: str
    born: int
