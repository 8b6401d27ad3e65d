"""The lines of a step that are not static: what is alive at the worst instant of forward, loss and backward."""

from collections.abc import Mapping, Sequence

from planner.families.parts import Decoder
from planner.gpu import Gpu
from planner.ledger import Evidence, Line
from planner.recipe import Recipe
from planner.timeline.fold import Instant, Part, worst_instants
from planner.timeline.legend import cause_of, shown_name
from planner.timeline.settle import numbers_of, switches_of
from planner.timeline.walk import walk

_SOURCE = "planner/timeline: one step of transformers 5.23, peft 0.21, bitsandbytes 0.50, torch 2.13, walked"
# A formula names its largest terms and sums up the rest.
_TERMS_SHOWN = 5


def step_lines(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> tuple[Line, ...]:
    """Everything alive beside the static lines, grouped by what it is; phases with equal bytes share a line."""
    numbers = _numbers(decoder, recipe)
    found: dict[tuple[str, int, str], tuple[list[str], Sequence[Part]]] = {}
    for instant in instants_of(decoder, recipe, gpu):
        for name, parts in _shown(instant).items():
            total = sum(part[2] for part in parts)
            if total:
                found.setdefault((name, total, _formula(parts)), ([], parts))[0].append(instant.phase)
    return tuple(
        Line(
            name=name,
            bytes=total,
            cause=cause_of(name),
            alive_in=tuple(phases),
            formula=formula,
            working=_working(parts, numbers),
            evidence=_evidence(decoder, recipe),
            source=_SOURCE,
        )
        for (name, total, formula), (phases, parts) in found.items()
    )


def instants_of(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> tuple[Instant, ...]:
    """The worst instant of each phase, for people and tests that look for a tensor."""
    program = walk(decoder.structure, switches_of(decoder, recipe, gpu))
    numbers = _numbers(decoder, recipe)
    order = decoder.order if program.alike else (len(numbers) - 1, *decoder.order[1:])
    return worst_instants(program, order, numbers)


def _numbers(decoder: Decoder, recipe: Recipe) -> tuple[Mapping[str, int], ...]:
    """One table per kind of layer, and the first kind's once more for a first layer that is unlike its kind."""
    tables = numbers_of(decoder, recipe)
    return (*tables, tables[0])


def _shown(instant: Instant) -> dict[str, list[Part]]:
    """The walk's causes under the names people see, equal sizes counted together, largest first."""
    lines: dict[str, dict[tuple[object, int], Part]] = {}
    for tag, parts in instant.lines.items():
        merged = lines.setdefault(shown_name(tag), {})
        for size, count, weight, kind in parts:
            _, before, bytes_before, _ = merged.get((size, kind), (size, 0, 0, kind))
            merged[size, kind] = (size, before + count, bytes_before + weight, kind)
    return {name: sorted(merged.values(), key=lambda part: -part[2]) for name, merged in lines.items()}


def _formula(parts: Sequence[Part]) -> str:
    """`64·2·T·h + 4·T`: tensors alive · bytes per element · dimensions."""
    terms = []
    for size, count, _, _ in parts[:_TERMS_SHOWN]:
        factors = [str(count)] if count != 1 else []
        factors += [str(size.num), *(f"[{name}]" if " " in name else name for name in size.dims)]
        terms.append("·".join(factors) + (f"/{size.den}" if size.den > 1 else ""))
    return " + ".join(terms) + (_rest(parts) if len(parts) > _TERMS_SHOWN else "")


def _working(parts: Sequence[Part], numbers: Sequence[Mapping[str, int]]) -> str:
    """The formula with numbers; each tensor is rounded up to 512 bytes."""
    terms = []
    for size, count, _, kind in parts[:_TERMS_SHOWN]:
        factors = [f"{count:,}"] if count != 1 else []
        factors += [str(size.num), *(f"{numbers[kind][name]:,}" for name in size.dims)]
        terms.append(" × ".join(factors) + (f" / {size.den}" if size.den > 1 else ""))
    return " + ".join(terms) + (_rest(parts) if len(parts) > _TERMS_SHOWN else "")


def _rest(parts: Sequence[Part]) -> str:
    rest = parts[_TERMS_SHOWN:]
    return f" + {sum(part[2] for part in rest):,} bytes in {len(rest)} smaller terms"


def _evidence(decoder: Decoder, recipe: Recipe) -> Evidence:
    hqq = recipe.quantization is not None and recipe.quantization.quant_method == "hqq"
    return "modelled" if decoder.evidence == "modelled" or hqq else "exact"
