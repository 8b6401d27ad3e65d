"""From symbolic events to bytes: the worst instant of each phase, and what is alive in it.

A model's step is its segments in order, each layer kind's as often as the kind occurs. Within a phase the worst
instant is the largest of (bytes alive when a segment starts + the segment's own highest point).
"""

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from planner.step.engine.events import Size
from planner.step.engine.graph import Graph
from planner.step.engine.held_bytes import Held, HeldThroughStep, Moment, summed
from planner.step.engine.ops import GRADIENTS
from planner.step.engine.segment_peaks import PHASES, levels, worst_natively

# A symbolic size, how many are alive, their bytes, and the kind of layer whose numbers they have.
Part = tuple[Size, int, int, int]
# The same before its numbers are known: size, how many, kind of layer, key of the program.
Kept = tuple[tuple[Size, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of the step. `moves` index the program's keys: i allocates key i, ~i frees it.

    `kind` is the layer kind, or None outside the layers; `net` is what the stretch leaves behind, per key. `births`
    says for each move which event of the trace allocated its tensor, `passing` whether that comes and goes within (1).
    `first_product`: in the forward pass, the moves up to the output of the stretch's first product.
    """

    phase: str
    kind: int | None
    moves: "array[int]"
    net: tuple[tuple[int, int], ...]
    births: "array[int]"
    passing: bytes
    first_product: int | None = None


# Compared by identity: a trace is done once and its program found again without hashing its events.
@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A step without numbers. A key is (line, symbolic size).

    `leading`: so many kinds, numbered after the others, are those of the first layers, which are unlike their like.
    `last`: the kind of the last layer, where that is unlike its like.
    `copied`: sizes of what a layer of each kind, or (None) the rest of the forward pass, copies to the host.
    `product`: the segment that begins with the first product of the backward pass; None where a layer has the first.
    """

    keys: tuple[tuple[str, Size], ...]
    sizes: frozenset[Size]
    segments: tuple[Segment, ...]
    leading: int = 0
    product: int | None = None
    last: int | None = None
    copied: tuple[tuple[int | None, Size], ...] = ()


@dataclass(frozen=True, slots=True)
class Instant:
    """The worst instant of a phase, what each line holds at it, and what is held beside the step's own tensors."""

    phase: str
    bytes: int
    lines: Mapping[str, Sequence[Part]]
    beside: Held


def compiled(graph: Graph, *, leading: int, last: int | None = None) -> Program:
    """Number the (line, size) pairs of a trace and cut it at its marks."""
    keys: dict[tuple[str, Size], int] = {}
    key_of = [keys.setdefault((buffer.tag, buffer.size), len(keys)) for buffer in graph.made]
    numbers, births = _in_order(graph)
    moves = array("i", [key_of[number] if number >= 0 else ~key_of[~number] for number in numbers])
    ends = [start for _, start in graph.marks[1:]] + [len(moves)]
    segments = []
    for number, ((name, start), end) in enumerate(zip(graph.marks, ends, strict=True)):
        phase, _, kind = name.partition(" ")
        net: dict[int, int] = {}
        for move in moves[start:end]:
            index = move if move >= 0 else ~move
            net[index] = net.get(index, 0) + (1 if move >= 0 else -1)
        left = tuple((index, count) for index, count in net.items() if count)
        own = [number if number >= 0 else ~number for number in numbers[start:end]]
        come = {number for number in numbers[start:end] if number >= 0}
        within = come.intersection([~number for number in numbers[start:end] if number < 0])
        passing = bytes([number in within for number in own])
        product = graph.first_products[number] - start if number in graph.first_products else None
        of_kind = int(kind) if kind else None
        segments.append(Segment(phase, of_kind, moves[start:end], left, births[start:end], passing, product))
    return Program(
        tuple(keys),
        frozenset(size for _, size in keys),
        tuple(segments),
        leading,
        graph.product,
        last,
        graph.offloading.copied_by_kind() if graph.offloading else (),
    )


def _in_order(graph: Graph) -> tuple[list[int], "array[int]"]:
    """The events, and where each one's tensor was allocated. What goes between two allocations goes in the order it
    came: which of them an engine lets go of first, no allocator could tell afterwards.
    """
    numbers, run = list[int](), list[int]()
    starts = {start for _, start in graph.marks}
    born = [0] * len(graph.made)
    for position, number in enumerate(graph.events):
        if run and (number >= 0 or position in starts):
            run.sort(reverse=True)
            numbers += run
            run.clear()
        if number >= 0:
            born[number] = position
            numbers.append(number)
        else:
            run.append(number)
    run.sort(reverse=True)
    numbers += run
    return numbers, array("i", [born[number if number >= 0 else ~number] for number in numbers])


@dataclass(frozen=True, slots=True)
class Worst:
    """Where the worst instant of a phase is: in the segment played at `position`, after `moves` of its moves."""

    phase: str
    bytes: int
    position: int
    moment: Moment
    moves: int


def worst_of_phases(
    program: Program, order: Sequence[int], tables: Sequence[Sequence[int]], beside: HeldThroughStep | None = None
) -> tuple[Worst, ...]:
    """The worst instants of forward, loss and backward. `tables[kind]` has the bytes of each key."""
    sequence = played(program, tuple(order))
    native = None if beside else worst_natively(program, sequence, tables)
    if native is not None:
        return tuple(Worst(phase, most_bytes, at, "during", moves) for phase, most_bytes, at, moves in native)
    reached = [levels(segment, tables[segment.kind or 0]) for segment in program.segments]
    highest, nets = [max(each) for each in reached], [each[-1] for each in reached]
    peaks = [_around_gradients(program, *each) for each in enumerate(reached)] if beside else []
    left = [_gradients_left(program, index, tables) for index in range(len(reached))] if beside else []
    reduced = summed([left[index] for index in sequence]) if beside else []
    best: dict[str, tuple[int, int, Moment]] = dict.fromkeys(PHASES, (-1, 0, "during"))
    level = 0
    for position, index in enumerate(sequence):
        phase = program.segments[index].phase
        moment: Moment = "during"
        found = level + highest[index]
        if beside:
            found, moment = beside.highest(position, level, peaks[index], nets[index], reduced)
        if found > best[phase][0]:
            best[phase] = found, position, moment
        level += nets[index]
    return tuple(
        Worst(phase, *worst, _moves_until(program, sequence[worst[1]], worst[2], tables))
        for phase, worst in best.items()
    )


def worst_instants(  # noqa: PLR0913 (the last one spares a second look)
    program: Program,
    order: Sequence[int],
    tables: Sequence[Sequence[int]],
    name_of: Callable[[str], str] = str,
    beside: HeldThroughStep | None = None,
    *,
    known: Sequence[Worst] | None = None,
) -> tuple[Instant, ...]:
    """`worst_of_phases` with what each line holds there; `name_of` says which line a trace's cause belongs to.

    `known`: those worst moments, if worked out before.
    """
    sequence = played(program, tuple(order))
    instants = []
    for worst in known or worst_of_phases(program, order, tables, beside):
        gone = beside.stretches[worst.position].gone if beside else (0, 0)
        lines = {
            tag: [(size, count, count * tables[kind][key], kind) for size, count, kind, key in parts]
            for tag, parts in _alive(program, sequence, worst.position, worst.moves, name_of, gone)
        }
        held = beside.held(worst.position, worst.moment) if beside else {}
        instants.append(Instant(worst.phase, worst.bytes, lines, held))
    return tuple(instants)


def _moves_until(program: Program, index: int, moment: Moment, tables: Sequence[Sequence[int]]) -> int:
    """How many moves of a segment have happened at its worst moment."""
    segment = program.segments[index]
    if moment in ("at_start", "at_end"):
        return 0 if moment == "at_start" else len(segment.moves)
    reached = levels(segment, tables[segment.kind or 0])
    first = _first_gradient(program, index)
    if moment == "before_gradients":
        return reached.index(max(reached[: first + 1]))
    return reached.index(max(reached[first:]), first)


def _around_gradients(program: Program, index: int, reached: Sequence[int]) -> tuple[int, int]:
    """How high a segment rises until its first gradient of a weight, and from then on; all of it where it has none."""
    first = _first_gradient(program, index)
    return max(reached[: first + 1]), max(reached[first:])


@lru_cache(maxsize=2048)
def _first_gradient(program: Program, index: int) -> int:
    """How many moves of a segment come before its first gradient of a weight; none where it has none."""
    keys, moves = program.keys, program.segments[index].moves
    return next((place for place, move in enumerate(moves) if move >= 0 and keys[move][0] == GRADIENTS), 0)


def _gradients_left(program: Program, index: int, tables: Sequence[Sequence[int]]) -> int:
    """Bytes of trained weights' gradients that a segment leaves behind."""
    segment = program.segments[index]
    table = tables[segment.kind or 0]
    return sum(count * table[key] for key, count in segment.net if program.keys[key][0] == GRADIENTS)


def without_gradients(program: Program, tables: Sequence[Sequence[int]]) -> list[list[int]]:
    """`tables` in which gradients of trained weights take no bytes."""
    gradients = [key for key, (tag, _) in enumerate(program.keys) if tag == GRADIENTS]
    found = [list(table) for table in tables]
    for table in found:
        for key in gradients:
            table[key] = 0
    return found


@lru_cache(maxsize=2048)
def played(program: Program, order: tuple[int, ...]) -> tuple[int, ...]:
    """Indices of the program's segments in the order they happen, the layers being of the kinds in `order`."""
    return tuple(_play(program.segments, order))


def _play(segments: Sequence[Segment], order: Sequence[int]) -> list[int]:
    """Segment indices in the order they happen for all layers; the backward pass meets the layers in reverse."""
    played: list[int] = []
    for (phase, outside), group in groupby(
        range(len(segments)), lambda index: (segments[index].phase, segments[index].kind is None)
    ):
        indices = list(group)
        if outside:
            played += indices
        else:
            by_kind = {segments[i].kind: i for i in indices}
            played += [by_kind[kind] for kind in (reversed(order) if phase == "backward" else order)]
    return played


@lru_cache(maxsize=8192)
def _alive(  # noqa: PLR0913, PLR0917 (each is a part of what is kept)
    program: Program,
    played: tuple[int, ...],
    position: int,
    step: int,
    name_of: Callable[[str], str],
    gone: tuple[int, int],
) -> tuple[tuple[str, Kept], ...]:
    """What is alive after `step` moves of the segment at `position`, by line, equal sizes counted together.

    Gradients that the segments from `gone[0]` up to `gone[1]` made are no longer there.
    """
    segments, index = program.segments, played[position]
    before = played[:position]
    alive: Counter[tuple[int, int]] = Counter()
    for other in played[slice(*gone)]:
        for key, left in segments[other].net:
            if program.keys[key][0] == GRADIENTS:
                alive[segments[other].kind or 0, key] -= left
    for other in set(before):
        kind, times = segments[other].kind or 0, before.count(other)
        for key, left in segments[other].net:
            alive[kind, key] += times * left
    kind = segments[index].kind or 0
    for move in segments[index].moves[:step]:
        alive[kind, move if move >= 0 else ~move] += 1 if move >= 0 else -1
    lines: dict[str, dict[tuple[Size, int], tuple[Size, int, int, int]]] = {}
    for (kind, key), count in alive.items():
        tag, size = program.keys[key]
        merged = lines.setdefault(name_of(tag), {})
        merged[size, kind] = (size, count + merged.get((size, kind), (size, 0))[1], kind, key)
    kept = ((name, tuple(part for part in parts.values() if part[1])) for name, parts in lines.items())
    return tuple((name, parts) for name, parts in kept if parts)
