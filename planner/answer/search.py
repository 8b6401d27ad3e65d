"""The largest number for which something still holds, found with few questions."""

from collections.abc import Callable

# Of three questions in a row one halves what is left, so that no bend in the curve makes the search long.
_HALVED_EVERY = 3


def largest(
    holds: Callable[[int], bool], most: int, room: Callable[[int], int] | None = None, known: int = 0
) -> int:
    """Largest n up to `most` for which `holds`, which is true up to some n and false beyond; `known` if none above is.

    `room`: how much is left at n, below zero where it does not hold. It tells where to ask next, and no more: a line
    through two of its values meets zero close to the answer, where bytes grow with n almost in proportion. `known` is
    taken to hold.
    """
    low, high = known, known + 1
    while high <= most and holds(high):
        low, high = high, _beyond(known, high, room)
    high = min(high, most + 1)
    asked = 0
    while high - low > 1:
        asked += 1
        middle = (low + high) // 2
        if room and low > known and high <= most and asked % _HALVED_EVERY:
            middle = _crossing(low, high, room)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _beyond(known: int, reached: int, room: Callable[[int], int] | None) -> int:
    """The next to ask when `reached` holds: just beyond where the room should be used up, and twice it at least.

    Without a guess, twice as far from what was known.
    """
    twice = known + 2 * (reached - known)
    if room is None or reached < known + 2:
        return twice
    first, here = room(known + 1), room(reached)
    if first <= here:
        return twice
    return max(twice, reached + here * (reached - known - 1) // (first - here) + 1)


def _crossing(low: int, high: int, room: Callable[[int], int]) -> int:
    """Where the line through both ends meets zero, strictly between them."""
    left, lacking = room(low), -room(high)
    between = low + (high - low) * left // (left + lacking) if left >= 0 and lacking > 0 else (low + high) // 2
    return min(max(between, low + 1), high - 1)
