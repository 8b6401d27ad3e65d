"""The lines of a step that are not static: what is alive at the worst instant of forward, loss and backward."""

from collections.abc import Sequence

from planner.families.parts import Decoder
from planner.gpu import Gpu
from planner.ledger import Cause, Evidence, Line
from planner.recipe import Recipe
from planner.timeline.fold import Instant, Part, worst_instants
from planner.timeline.settle import numbers_of, switches_of
from planner.timeline.walk import walk

_SOURCE = "planner/timeline: one step of transformers 5.23, peft 0.21, bitsandbytes 0.50 on torch 2.13, walked"


def step_lines(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> tuple[Line, ...]:
    """Everything alive beside the static lines, grouped by what it is; phases with equal bytes share a line."""
    found: dict[tuple[str, int, str], tuple[list[str], Sequence[Part]]] = {}
    for instant in instants_of(decoder, recipe, gpu):
        for name, parts in instant.lines.items():
            total = sum(part[2] for part in parts)
            if total:
                found.setdefault((name, total, _formula(parts)), ([], parts))[0].append(instant.phase)
    return tuple(
        Line(
            name=name,
            bytes=total,
            cause=_cause(name),
            alive_in=tuple(phases),
            formula=formula,
            working=_working(parts),
            evidence=_evidence(decoder),
            source=_SOURCE,
        )
        for (name, total, formula), (phases, parts) in found.items()
    )


def instants_of(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> tuple[Instant, ...]:
    """The worst instant of each phase, for people and tests that look for a tensor."""
    switches = switches_of(decoder, recipe, gpu)
    program, order, numbers = walk(decoder.structure, switches), decoder.order, numbers_of(decoder, recipe)
    if not program.alike:
        order, numbers = (len(numbers), *order[1:]), (*numbers, numbers[0])
    return worst_instants(program, order, numbers)


def _formula(parts: Sequence[Part]) -> str:
    """`64·2·T·h + 4·T`: tensors alive · bytes per element · dimensions."""
    terms = []
    for size, count, _ in sorted(parts, key=lambda part: -part[2]):
        factors = [str(count)] if count != 1 else []
        factors += [str(size.num), *size.dims]
        terms.append("·".join(factors) + (f"/{size.den}" if size.den > 1 else ""))
    return " + ".join(terms)


def _working(parts: Sequence[Part]) -> str:
    return " + ".join(f"{weight:,}" for _, _, weight in sorted(parts, key=lambda part: -part[2])) + " bytes"


def _cause(name: str) -> Cause:
    if "trained weights" in name:
        return "gradients"
    if "logit" in name:
        return "logits"
    return "workspace" if "workspace" in name or "expanded" in name else "activations"


def _evidence(decoder: Decoder) -> Evidence:
    return "exact" if decoder.evidence == "exact" else "modelled"
