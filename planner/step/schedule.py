"""One training step as a script for an allocator: which tensor comes, which goes, in the order they do.

What a layer makes and lets go of itself passes. Equal layers ask for equal passing tensors, so that these are not
played in all of them. Of the large pool: in all layers forward, and in the first two of each kind backward, because by
then each saved tensor that goes leaves more room than the next layer asks for; where a layer leaves more than it gives
back (gradients of large adapters, or of the weights themselves), in all. Of the small pool: in the first two and the
last two of each kind, as gradients gather until the last.

Error: of the 71 settings of the evidence matrix, what is left out takes 10 MiB of the small pool at most, 0.3 %.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise

from planner.allocator.caching_allocator import SMALL_SIZE_BYTES
from planner.families.parts import Decoder
from planner.gpu import Gpu
from planner.request.recipe import Recipe
from planner.step.engine.ops import GRADIENTS
from planner.step.engine.program import Program, Segment, played
from planner.step.lines import program_order_and_tables
from planner.step.pattern_instances import Alive, Pattern, PatternInstance, Stretch

LAYERS_PLAYED_BACKWARD = 2
_SMALL_PLAYED_AT_EACH_END = 2


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """Instances in their order; `slots` of tensors outlive the instance that made them. Equal patterns are one object.

    `segments`: which instances are of one, its phase, and whether it is a layer.

    `forward_product` is the instance that begins when the output of the first product is there, or with the step;
    `product` the one that begins with the first product of the backward pass, or with its first layer. `left`: slots
    of what goes when the backward pass is over; `gradients`: of what the optimizer reads, and is there until then.
    """

    patterns: tuple[Pattern, ...]
    instances: tuple[PatternInstance, ...]
    segments: tuple[tuple[range, str, bool], ...]
    slots: int
    forward_product: int
    product: int
    left: "array[int]"
    gradients: "array[int]"


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
    sizes = _joined(tables)
    if any(_leaves_more(program, segment, sizes) for segment in program.segments):
        layers_backward = len(order)
    return Step(_script(program, tuple(order), layers_backward), sizes)


def _joined(tables: Sequence[Sequence[int]]) -> Sequence[int]:
    """All in one; in an array where each is one, which the allocator in C reads as it is."""
    if not all(isinstance(table, array) for table in tables):
        return list(chain.from_iterable(tables))
    sizes = array("q")
    for table in tables:
        sizes.extend(table)
    return sizes


def largest_bytes(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> int:
    """The largest tensor that a step makes."""
    _, _, tables = program_order_and_tables(decoder, recipe, gpu)
    return max(map(max, {id(table): table for table in tables[:-1]}.values()))


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
    stretches: dict[tuple[int, bool, int, int], Stretch] = {}
    instances: list[PatternInstance] = []
    segments: list[tuple[range, str, bool]] = []
    alive = Alive()
    product, forward_product = None, None
    for segment, layer, large, small in _instances(program, order, layers_backward):
        if product is None and segment.phase == "backward" and _has_the_first_product(program, segment):
            product = len(instances)
        starts = [0]
        if forward_product is None and segment.first_product is not None:
            starts.append(segment.first_product)
            forward_product = len(instances) + 1
        for start, end in pairwise((*starts, len(segment.moves))):
            whole = large or small
            key = (id(segment), whole, start, end)
            if key not in stretches:
                offset = (segment.kind or 0) * len(program.keys)
                stretches[key] = Stretch(segment, slice(start, end), offset, patterns, whole=whole)
            instances.append(stretches[key].instantiate(alive, layer, large=large, small=small))
        segments.append((range(len(instances) - len(starts), len(instances)), segment.phase, segment.kind is not None))
    left = [(key, slot) for key, places in alive.places.items() for _, slot in places.values()]
    return Script(
        tuple(patterns),
        tuple(instances),
        tuple(segments),
        alive.slots,
        forward_product or 0,
        len(instances) if product is None else product,
        array("i", [slot for key, slot in left if program.keys[key][0] != GRADIENTS]),
        array("i", [slot for key, slot in left if program.keys[key][0] == GRADIENTS]),
    )


def _has_the_first_product(program: Program, segment: Segment) -> bool:
    if program.product is None:
        return segment.kind is not None
    return segment is program.segments[program.product]


def _instances(
    program: Program, order: tuple[int, ...], layers_backward: int
) -> Iterator[tuple[Segment, int | None, bool, bool]]:
    """Each segment as it is played: the layer it is of, and whether what passes is played in each pool."""
    layers, counts, alike = len(order), dict[str, int](), dict[int, int]()
    sequence = played(program, order)
    all_alike = Counter(sequence)
    for index in sequence:
        segment = program.segments[index]
        if segment.kind is None:
            yield segment, None, True, True
            continue
        number = counts.get(segment.phase, 0) % layers
        counts[segment.phase] = number + 1
        backward = segment.phase == "backward"
        alike[index] = alike.get(index, 0) + 1
        from_an_end = min(alike[index] - 1, all_alike[index] - alike[index])
        large = not backward or alike[index] <= layers_backward
        small = from_an_end < max(_SMALL_PLAYED_AT_EACH_END, layers_backward)
        yield segment, layers - 1 - number if backward else number, large, small
