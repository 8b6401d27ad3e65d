"""Every tensor of a step, layer by layer: where it is made and where it goes."""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.step.engine.program import Program, Segment, played
from planner.step.pattern_instances import Alive


@dataclass(slots=True)
class Tensor:
    """`key` and `kind` say its size: `tables[kind][key]` bytes. Positions are those of segments as they are played.

    `gone` is None where it is there when the backward pass is over.
    """

    key: int
    kind: int
    born: int
    gone: int | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """A segment as it is played, and the layer it is of. `moves`: the tensor's number, `~number` where it goes."""

    segment: Segment
    layer: int | None
    moves: list[int]


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """All positions of a step in order, and all of its tensors."""

    positions: list[Position]
    tensors: list[Tensor]


def lifetimes_of(program: Program, order: Sequence[int]) -> Lifetimes:
    """Play a step without numbers."""
    alive, tensors, counts = Alive(), list[Tensor](), dict[str, int]()
    positions: list[Position] = []
    for index in played(program, tuple(order)):
        segment, layer = program.segments[index], None
        if segment.kind is not None:
            layer = counts.get(segment.phase, 0) % len(order)
            counts[segment.phase] = counts.get(segment.phase, 0) + 1
            if segment.phase == "backward":
                layer = len(order) - 1 - layer
        positions.append(_played(segment, layer, len(positions), alive, tensors))
    return Lifetimes(positions, tensors)


def _played(segment: Segment, layer: int | None, at: int, alive: Alive, tensors: list[Tensor]) -> Position:
    moves: list[int] = []
    own: dict[int, int] = {}
    for move, born in zip(segment.moves, segment.births, strict=True):
        if move >= 0:
            own[born] = len(tensors)
            moves.append(len(tensors))
            tensors.append(Tensor(move, segment.kind or 0, at))
            continue
        number = own.pop(born, None)
        if number is None:
            _, number = alive.take(~move, layer, born)
        tensors[number].gone = at
        moves.append(~number)
    for born, number in own.items():
        key = tensors[number].key
        alive.places.setdefault(key, {})[layer, born] = (key, number)
    return Position(segment, layer, moves)
