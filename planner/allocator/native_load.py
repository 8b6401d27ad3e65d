"""Loading played in C: what one weight makes is a pattern of planner/native/play.c, and each weight a instance."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from planner.allocator.native_pools import NativePools


@dataclass(frozen=True, slots=True)
class Piece:
    """`count` equal tensors that loading a weight makes, one after the other.

    Those that do not stay go in reverse once the weight is made, or sooner: `ends` is how many of the oldest of them
    have gone when this piece is there.
    """

    size_bytes: int
    stays: bool
    count: int = 1
    ends: int = 0


def load_natively(pools: NativePools, weights: Sequence[Sequence[Piece]]) -> list["array[int]"]:
    """Handles of what stays of each weight. Weights that make the same share one list of pieces.

    Raises:
        OutOfDeviceMemoryError: the pools' capacity does not allow it.
        OverflowError: the pools in C have too few addresses.
    """
    sizes, patterns, numbers = array("q"), list["array[int]"](), dict[int, int]()
    for pieces in weights:
        if id(pieces) not in numbers:
            numbers[id(pieces)] = len(patterns)
            patterns.append(_pattern(pieces, len(sizes)))
            sizes.extend(piece.size_bytes for piece in pieces)
    begins, flat = list[int](), array("i")
    for pattern in patterns:
        begins.append(len(flat))
        flat += pattern
    slots, kept = 0, list[tuple[int, int]]()
    for pieces in weights:
        number = numbers[id(pieces)]
        begins.append(len(flat))
        end = slots + patterns[number][_LEFT]
        flat.extend((number, 1, 1, 0, *range(slots, end)))
        kept.append((slots, end))
        slots = end
    head = 2 + len(begins)
    script = array("i", [len(patterns), len(weights), *(head + begin for begin in begins)]) + flat
    places = array("i", bytes(4 * slots))
    pools.play_instances(script, sizes, places, range(len(weights)))
    return [places[first:end] for first, end in kept]


# Where a pattern says how many of its tensors stay.
_LEFT = 2


def _pattern(pieces: Sequence[Piece], first_size: int) -> "array[int]":
    """`first_size`: the index of the first piece's size."""
    left, passing, moves, made = list[int](), list[tuple[int, int]](), array("i"), 0
    for index, piece in enumerate(pieces, first_size):
        numbers = range(made, made := made + piece.count)
        for number in numbers:
            moves.extend((2 * index, number))
        for size, number in passing[: piece.ends]:
            moves.extend((2 * size, ~number))
        del passing[: piece.ends]
        if piece.stays:
            left.extend(numbers)
        else:
            passing.extend((index, number) for number in numbers)
    for size, number in reversed(passing):
        moves.extend((2 * size, ~number))
    return array("i", [len(moves) // 2, made, len(left)]) + moves + array("i", left)
