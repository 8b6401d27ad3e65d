"""Bytes per element, and which of the two 16-bit types it is where a run has both.

A run's own 16-bit type, autocast's or the model's, is 2. What has the other one, a float16 checkpoint under bfloat16
autocast, is OTHER_HALF: as wide, and yet torch copies it where it is cast, and a sum of both is float32
(torch.promote_types).
"""

# No element has as many bytes.
_MARK = 1 << 32
_BYTES = _MARK - 1
OTHER_HALF = _MARK | 2
_FLOAT32 = 4


def bytes_of(each: int) -> int:
    """Bytes per element."""
    return each & _BYTES


def promoted(a: int, b: int) -> int:
    """What an operation on `a` and `b` results in."""
    if a == b:
        return a
    if a & _BYTES == b & _BYTES:
        return _FLOAT32
    return a if a & _BYTES > b & _BYTES else b
