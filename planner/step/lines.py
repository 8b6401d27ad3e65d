"""The lines of a step that are not static: what is alive at the worst instant of forward, loss and backward."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Protocol

from planner.families.parts import Decoder
from planner.gpu import Gpu
from planner.ledger import Line
from planner.request.recipe import Recipe
from planner.step.engine.events import Size
from planner.step.engine.held_bytes import HeldThroughStep
from planner.step.engine.program import (
    Instant,
    Part,
    Program,
    Worst,
    played,
    without_gradients,
    worst_instants,
    worst_of_phases,
)
from planner.step.engine.tables import tables_of
from planner.step.from_recipe.derive_numbers import numbers_of
from planner.step.from_recipe.derive_switches import switches_of
from planner.step.from_recipe.placed_layers import by_kinds
from planner.step.legend import cause_of, shown_name
from planner.step.switches import Switches
from planner.step.trace import trace
from planner.step.unsloth.step import trace_unsloth

_SOURCE = "planner/step: one step of transformers 5.23, peft 0.21, bitsandbytes 0.50, torch 2.14, traced"
# A formula names its largest terms and sums up the rest.
TERMS_SHOWN = 5
# Symbolic sizes and how many of each are alive.
Terms = tuple[tuple[Size, int], ...]
_bytes_of_part = itemgetter(2)


class HoldsBytes(Protocol):
    """What a strategy for several cards holds while a step runs."""

    def held_through(self, segments: Sequence[tuple[str, bool]]) -> HeldThroughStep:
        """A stretch for each segment, told by its phase and whether it is a layer."""

    def line(self, name: str, size_bytes: int, alive_in: tuple[str, ...]) -> Line:
        """The ledger's line of one of its names."""


def step_lines(decoder: Decoder, recipe: Recipe, gpu: Gpu, held: HoldsBytes | None = None) -> tuple[Line, ...]:
    """Everything alive beside the static lines, grouped by what it is; phases with equal bytes share a line.

    `held` says what several cards hold in each segment beside what the layers make.
    """
    return lines_at(_instants(decoder, recipe, gpu, shown_name, held), numbers_by_kind(decoder, recipe, gpu), held)


def lines_at(
    instants: Sequence[Instant], numbers: Sequence[Mapping[str, int]], held: HoldsBytes | None = None
) -> tuple[Line, ...]:
    """What is alive at these instants, as lines. `numbers`: of each kind of layer."""
    found: dict[tuple[str, int, Terms], tuple[list[str], Sequence[Part]]] = {}
    beside: dict[tuple[str, int], list[str]] = {}
    for instant in instants:
        for name, size_bytes in instant.beside.items():
            beside.setdefault((name, size_bytes), []).append(instant.phase)
        for name, unsorted in instant.lines.items():
            parts = sorted(unsorted, key=_bytes_of_part, reverse=True)
            total = sum(part[2] for part in parts)
            if total:
                terms = tuple((size, count) for size, count, _, _ in parts)
                found.setdefault((name, total, terms), ([], parts))[0].append(instant.phase)
    shown = [_Shown(table) for table in numbers]
    made = tuple(
        Line(
            name=name,
            bytes=total,
            cause=cause_of(name),
            alive_in=tuple(phases),
            formula=formula_of(terms[:TERMS_SHOWN]) + _rest(parts),
            working=_working(parts, shown) + _rest(parts),
            source=_SOURCE,
        )
        for (name, total, terms), (phases, parts) in found.items()
    )
    return (*made, *(held.line(*key, tuple(phases)) for key, phases in beside.items() if held))


def step_totals(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> dict[str, int]:
    """Per phase, the bytes of `step_lines` on one card, without the lines: most plans are asked for no more."""
    return {worst.phase: worst.bytes for worst in _worst_on_one_card(decoder, recipe, gpu)}


@lru_cache(maxsize=64)
def _worst_on_one_card(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> tuple[Worst, ...]:
    return worst_of_phases(*program_order_and_tables(decoder, recipe, gpu))


def instants_of(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> tuple[Instant, ...]:
    """The worst instant of each phase, for people and tests that look for a tensor."""
    return _instants(decoder, recipe, gpu)


def _instants(
    decoder: Decoder,
    recipe: Recipe,
    gpu: Gpu,
    name_of: Callable[[str], str] = str,
    held: HoldsBytes | None = None,
) -> tuple[Instant, ...]:
    program, order, tables = program_order_and_tables(decoder, recipe, gpu)
    if held is None:
        return worst_instants(program, order, tables, name_of, known=_worst_on_one_card(decoder, recipe, gpu))
    segments = [program.segments[index] for index in played(program, tuple(order))]
    beside = held.held_through([(segment.phase, segment.kind is not None) for segment in segments])
    if beside.takes_gradients:
        return worst_instants(program, order, without_gradients(program, tables), name_of, beside)
    return worst_instants(program, order, tables, name_of, beside)


@lru_cache(maxsize=64)
def program_order_and_tables(
    decoder: Decoder, recipe: Recipe, gpu: Gpu
) -> tuple[Program, tuple[int, ...], tuple[Sequence[int], ...]]:
    """The step without numbers, the kind of each layer, and the bytes of the program's keys for each kind.

    Kept for a moment: several questions about one run follow each other.
    """
    decoder = by_kinds(decoder, recipe)
    program = _program(decoder, switches_of(decoder, recipe, gpu))
    tables = tables_of(program, numbers_by_kind(decoder, recipe, gpu))
    return program, ordered(decoder, program.leading, program.last), tables


@lru_cache(maxsize=64)
def ordered(decoder: Decoder, leading: int, last: int | None = None) -> tuple[int, ...]:
    """The layers' kinds; the first layers are of kinds of their own, and where `last` says so, the last one is."""
    if last is not None:
        return (*ordered(decoder, leading)[:-1], last)
    if not leading:
        return decoder.order
    first, rest = len(decoder.kind_sizes), decoder.order[1:]
    until = decoder.order.index(leading - 2) if leading > 1 else 0
    return (first, *(first + 1 + kind for kind in rest[:until]), *rest[until:])


@lru_cache(maxsize=2048)
def _program(decoder: Decoder, switches: Switches) -> Program:
    """`trace`, found again without hashing the model's whole structure."""
    if switches.unsloth:
        return trace_unsloth(decoder.structure, switches)
    return trace(decoder.structure, switches)


@lru_cache(maxsize=64)
def numbers_by_kind(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> tuple[Mapping[str, int], ...]:
    """One table per kind of layer, the first layer's, and all once more for layers before the first that trains."""
    tables = numbers_of(by_kinds(decoder, recipe), recipe, gpu)
    return (*tables, tables[0], *tables)


@lru_cache(maxsize=8192)
def formula_of(terms: Terms) -> str:
    """`64·2·T·h + 4·T`: tensors alive · bytes per element · dimensions."""
    return " + ".join(_term(size, count) for size, count in terms)


def largest_terms(parts: Sequence[Part]) -> Terms:
    """Size and number of those that have most bytes, as many as a line shows."""
    ordered_parts = sorted(parts, key=lambda part: -part[2])
    return tuple((size, count) for size, count, _, _ in ordered_parts[:TERMS_SHOWN])


def _term(size: Size, count: int) -> str:
    factors = [str(count)] if count != 1 else []
    factors += [str(size.num), *(f"[{name}]" if " " in name else name for name in size.dims)]
    return "·".join(factors) + (f"/{size.den}" if size.den > 1 else "")


class _Shown(dict[str, str]):
    """Numbers as people read them, each written when it is first asked for: most have no part in a line."""

    def __init__(self, numbers: Mapping[str, int]) -> None:
        super().__init__()
        self._numbers = numbers

    def __missing__(self, name: str) -> str:
        shown = self[name] = f"{self._numbers[name]:,}"
        return shown


def _working(parts: Sequence[Part], shown: Sequence[Mapping[str, str]]) -> str:
    """The formula with numbers; each tensor is rounded up to 512 bytes."""
    terms = []
    for size, count, _, kind in parts[:TERMS_SHOWN]:
        factors = [f"{count:,}"] if count != 1 else []
        factors += [str(size.num), *map(shown[kind].__getitem__, size.dims)]
        terms.append(" × ".join(factors) + (f" / {size.den}" if size.den > 1 else ""))
    return " + ".join(terms)


def _rest(parts: Sequence[Part]) -> str:
    rest = parts[TERMS_SHOWN:]
    return f" + {sum(part[2] for part in rest):,} bytes in {len(rest)} smaller terms" if rest else ""
