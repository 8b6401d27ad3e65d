"""The instances of a step's script: what one stretch of the step makes and frees, written once for all layers alike."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from planner.step.engine.program import Segment


@dataclass(frozen=True, slots=True)
class Pattern:
    """Moves without bytes, as many layers share them.

    Tensors that were there before come first, then the `made` ones, of which `left` stay. `moves` are pairs of int32
    as planner/native/play.c reads them, which take a tenth of what Python's numbers do: twice the index of the size,
    and one more where the tensor comes and goes within; the tensor's number, `~number` where it goes.
    """

    moves: bytes
    made: int
    left: tuple[int, ...]

    def each_move(self) -> Iterator[tuple[int, int, bool]]:
        """Index of the size, number of the tensor as in `moves`, and whether it comes and goes within."""
        flat = array("i", self.moves)
        return ((index // 2, number, index % 2 == 1) for index, number in zip(flat[::2], flat[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class PatternInstance:
    """A pattern as it is played: the slots of the tensors that go, and of those that stay.

    `large`, `small`: whether tensors of that pool are played that only pass.
    """

    pattern: Pattern
    freed: "array[int]"
    left: "array[int]"
    large: bool
    small: bool


class Alive:
    """The tensors that outlive the instance that made them, by the program's key and then by (layer, birth)."""

    def __init__(self) -> None:
        self.slots = 0
        # (index of the size, slot), the latest last.
        self.places: dict[int, dict[tuple[int | None, int], tuple[int, int]]] = {}

    def take(self, key: int, layer: int | None, born: int) -> tuple[int, int]:
        """The tensor that goes: of this layer, of a neighbour the latest, or of the model.

        The traced layer was given what the embedding made; a later one is given what its neighbour made.
        """
        places = self.places[key]
        if (layer, born) in places:
            return places.pop((layer, born))
        if layer is not None:
            for name in reversed(places):
                if name[0] not in {None, layer}:
                    return places.pop(name)
        if (None, born) in places:
            return places.pop((None, born))
        return places.popitem()[1]

    def make(self, count: int) -> int:
        """Slots for `count` more tensors; returns the first."""
        first, self.slots = self.slots, self.slots + count
        return first


class Stretch:
    """Some moves of a segment, the same in every layer but for the slots; where the tensors that go were made by
    layers of different kinds, their sizes differ, too.
    """

    def __init__(
        self, segment: Segment, moves: slice, offset: int, patterns: dict[Pattern, Pattern], *, whole: bool
    ) -> None:
        """`offset`: the index of the first size of the segment's kind. Without `whole`, what comes and goes within the
        segment is left out. `patterns`: one object for all that are equal.
        """
        self._offset, self._patterns = offset, patterns
        self._of_sizes: dict[tuple[int, ...], Pattern] = {}
        # (key, birth) of each tensor that goes and was there before, and of each that comes.
        self._freed: list[tuple[int, int]] = []
        self._made: list[tuple[int, int]] = []
        # (key, number among the made ones) for one that comes, (key, ~number) where it goes again, and (None, number
        # among the freed ones).
        self._moves: list[tuple[int | None, int]] = []
        own: dict[int, int] = {}
        for move, born, passes in zip(segment.moves[moves], segment.births[moves], segment.passing[moves], strict=True):
            if passes and not whole:
                continue
            if move >= 0:
                own[born] = len(self._made)
                self._moves.append((move, len(self._made)))
                self._made.append((move, born))
            elif born in own:
                self._moves.append((~move, ~own.pop(born)))
            else:
                self._moves.append((None, len(self._freed)))
                self._freed.append((~move, born))
        # Numbers, among the made ones, of those that stay.
        self._left = tuple(own.values())

    def instantiate(self, alive: Alive, layer: int | None, *, large: bool, small: bool) -> PatternInstance:
        """The stretch as `layer` plays it. `large`, `small`: see `PatternInstance`."""
        taken = [alive.take(key, layer, born) for key, born in self._freed]
        first = alive.make(len(self._made))
        pattern = self._pattern(tuple(size for size, _ in taken))
        left = array("i", [first + number for number in self._left])
        for number, slot in zip(self._left, left, strict=True):
            key, born = self._made[number]
            alive.places.setdefault(key, {})[layer, born] = (self._offset + key, slot)
        return PatternInstance(pattern, array("i", [slot for _, slot in taken]), left, large, small)

    def _pattern(self, freed_sizes: tuple[int, ...]) -> Pattern:
        if freed_sizes not in self._of_sizes:
            before, offset = len(freed_sizes), self._offset
            left = tuple(before + number for number in self._left)
            staying, moves = set(left), array("i")
            for key, number in self._moves:
                if key is None:
                    moves.extend((2 * freed_sizes[number], ~number))
                else:
                    own = before + (number if number >= 0 else ~number)
                    moves.extend((2 * (offset + key) + (own not in staying), own if number >= 0 else ~own))
            pattern = Pattern(moves.tobytes(), len(self._made), left)
            self._of_sizes[freed_sizes] = self._patterns.setdefault(pattern, pattern)
        return self._of_sizes[freed_sizes]
