"""One training step as a script for an allocator: which tensor comes, which goes, in the order they do.

All layers run forward. Backward, the first two layers of each kind are played move by move; of every later one only
what outlives it, because by then each saved tensor that goes leaves more room than the next layer asks for. Where a
layer leaves more than it gives back (gradients of large adapters, or of the weights themselves), all are played.
Played so, the 49 published runs that read their reserved bytes and 210 further settings (10 models, 4 stacks, batches,
ranks, methods) reserve what the whole step does, to the byte.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from planner.allocator.caching_allocator import SMALL_SIZE_BYTES
from planner.families.parts import Decoder
from planner.gpu import Gpu
from planner.request.recipe import Recipe
from planner.step.engine.ops import GRADIENTS
from planner.step.engine.program import Program, Segment, played
from planner.step.lines import program_order_and_tables

LAYERS_PLAYED_BACKWARD = 2


Moves = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """Moves without bytes, as many layers share them: (index of the size, number), `~number` where the tensor goes.

    Tensors that were there before come first, then the `made` ones, of which `left` stay.
    """

    moves: Moves
    made: int
    left: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """A pattern as it is played: the slots of the tensors that go, and of those that stay.

    `whole` is the pattern that its like followed before it, where only what outlives the layer is played.
    """

    pattern: Pattern
    freed: tuple[int, ...]
    left: tuple[int, ...]
    whole: Pattern


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """Scenes in their order; `slots` of tensors outlive the scene that made them. Equal patterns are one object.

    `forward_product` is the scene that begins when the output of the first product is there, or with the step;
    `product` the one that begins with the first product of the backward pass, or with its first layer. `left`: (index
    of the size, slot) of those still there when the backward pass is over; `gradients`: of those among them that the
    optimizer reads.
    """

    patterns: tuple[Pattern, ...]
    scenes: tuple[Scene, ...]
    slots: int
    forward_product: int
    product: int
    left: Moves
    gradients: Moves


@dataclass(frozen=True, slots=True)
class Step:
    """A script and what its sizes are, in bytes."""

    script: Script
    sizes: Sequence[int]


def step_of(
    decoder: Decoder, recipe: Recipe, gpu: Gpu, *, layers_backward: int = LAYERS_PLAYED_BACKWARD
) -> Step:
    """The step of this recipe on this card; `layers_backward` are played move by move."""
    program, order, tables = program_order_and_tables(decoder, recipe, gpu)
    sizes = list(chain.from_iterable(tables))
    if any(_leaves_more(program, segment, sizes) for segment in program.segments):
        layers_backward = len(order)
    return Step(_script(program, tuple(order), layers_backward), sizes)


def largest_bytes(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> int:
    """The largest tensor that a step makes."""
    _, _, tables = program_order_and_tables(decoder, recipe, gpu)
    return max(map(max, tables[:-1]))


def _leaves_more(program: Program, segment: Segment, sizes: Sequence[int]) -> bool:
    """Whether the gradients of one layer's weights take more of the large pool than the layer gives back."""
    if segment.kind is None or segment.phase != "backward":
        return False
    offset = segment.kind * len(program.keys)
    found = ((sizes[offset + key], count) for key, count in segment.net)
    return sum(size * count for size, count in found if size > SMALL_SIZE_BYTES) > 0


@lru_cache(maxsize=512)
def _script(program: Program, order: tuple[int, ...], layers_backward: int) -> Script:
    patterns: dict[Pattern, Pattern] = {}
    played_whole: dict[int, Pattern] = {}
    scenes: list[Scene] = []
    alive: dict[int, dict[tuple[int | None, int], tuple[int, int]]] = {}
    slots, product, forward_product = 0, None, None
    for segment, layer, whole in _scenes(program, order, layers_backward):
        if product is None and segment.phase == "backward" and _has_the_first_product(program, segment):
            product = len(scenes)
        offset = (segment.kind or 0) * len(program.keys)
        moves: list[tuple[int, int]] = []
        first = slots
        for move, born in zip(segment.moves, segment.births, strict=True):
            if not whole and born in segment.passing:
                continue
            if move >= 0:
                alive.setdefault(move, {})[layer, born] = (offset + move, slots)
                moves.append((offset + move, slots))
                slots += 1
            else:
                size, slot = _taken(alive[~move], layer, born)
                moves.append((size, ~slot))
        if forward_product is None and segment.first_product is not None:
            before = moves[: segment.first_product]
            scenes.append(_scene(before, first, patterns, None))
            moves, first = moves[len(before) :], first + sum(slot >= 0 for _, slot in before)
            forward_product = len(scenes)
        scenes.append(_scene(moves, first, patterns, None if whole else played_whole[id(segment)]))
        if whole:
            played_whole[id(segment)] = scenes[-1].pattern
    left = [(key, place) for key, places in alive.items() for place in places.values()]
    return Script(
        tuple(patterns),
        tuple(scenes),
        slots,
        forward_product or 0,
        len(scenes) if product is None else product,
        tuple(place for key, place in left if program.keys[key][0] != GRADIENTS),
        tuple(place for key, place in left if program.keys[key][0] == GRADIENTS),
    )


def _has_the_first_product(program: Program, segment: Segment) -> bool:
    if program.product is None:
        return segment.kind is not None
    return segment is program.segments[program.product]


def _scene(
    moves: Sequence[tuple[int, int]], first: int, patterns: dict[Pattern, Pattern], whole: Pattern | None
) -> Scene:
    """The pattern that `moves` follow, one object for all its like; slots from `first` on are theirs."""
    gone = [~slot for _, slot in moves if slot < 0]
    made = [slot for _, slot in moves if slot >= 0]
    freed = tuple(slot for slot in gone if slot < first)
    number = {slot: index for index, slot in enumerate((*freed, *made))}
    staying = set(made).difference(gone)
    left = tuple(slot for slot in made if slot in staying)
    numbered = tuple((size, number[slot] if slot >= 0 else ~number[~slot]) for size, slot in moves)
    pattern = Pattern(numbered, len(made), tuple(number[slot] for slot in left))
    pattern = patterns.setdefault(pattern, pattern)
    return Scene(pattern, freed, left, whole or pattern)


def _taken(places: dict[tuple[int | None, int], tuple[int, int]], layer: int | None, born: int) -> tuple[int, int]:
    """The tensor that goes: of this layer, of the model, or, where a neighbour made it, the latest."""
    for key in ((layer, born), (None, born)):
        if key in places:
            return places.pop(key)
    return places.popitem()[1]


def _scenes(
    program: Program, order: tuple[int, ...], layers_backward: int
) -> Iterator[tuple[Segment, int | None, bool]]:
    """Each segment as it is played: the layer it is of, and whether move by move."""
    layers, counts, alike = len(order), dict[str, int](), dict[int, int]()
    for index in played(program, order):
        segment = program.segments[index]
        if segment.kind is None:
            yield segment, None, True
            continue
        number = counts.get(segment.phase, 0) % layers
        counts[segment.phase] = number + 1
        backward = segment.phase == "backward"
        alike[index] = alike.get(index, 0) + 1
        yield segment, layers - 1 - number if backward else number, not backward or alike[index] <= layers_backward
