"""What would make it fit: what is free first and its combinations, then cuts, a smaller model, more cards, other cards.

Every change is planned before it is named, so that it gives the verdict it promises.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from planner.answer.planned import Planned
from planner.answer.search import largest
from planner.answer.verdict import Verdict
from planner.answer.ways_to_fit.changes import DIFFERENT, FREE, SLOWER, Candidate, Change, candidates
from planner.answer.ways_to_fit.more_cards import cost_of, more_cards
from planner.answer.ways_to_fit.smaller_models import smaller_models
from planner.errors import FitproofError
from planner.request.schema import CHAPTER_QUANTIZATION, Request

Replan = Callable[[Request], Planned]

LONGEST_COMBINATION = 8
MOST_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Advice:
    """A change, by dotted path into the request, with the verdict it was planned to give.

    `is_free`: the same training, no slower.
    """

    change: Change
    saves_bytes: int
    verdict: Verdict
    cost: str
    is_free: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As the API writes it."""
        change = {path: list(value) if isinstance(value, tuple) else value for path, value in self.change.items()}
        return {"change": change, "saves_bytes": self.saves_bytes, "verdict": self.verdict, "cost": self.cost}


@dataclass(frozen=True, slots=True)
class _Tried:
    candidate: Candidate
    plan: Planned


def advise(
    plan: Planned,
    replan: Replan,
    smallest_cards: Callable[[Request], Sequence[Planned]],
    cannot_hold: Callable[[Request], bool],
) -> tuple[Advice, ...]:
    """Changes that make `plan` fit, cheapest first and among equals the one that saves most; none where it fits.

    `cannot_hold`: whether a request has too much on this plan's card before any step, which is known at once.

    A cut is made on top of all that is free where that alone does not do, so that it is no deeper than it must be.
    """
    if plan.verdict == "fits":
        return ()
    every = list(_tried(plan, replan, candidates(plan)))
    tried = _helping(plan, every)
    fitting = [item for item in tried if item.plan.verdict == "fits"]
    freed = _freed(plan, replan, tried)
    if freed and freed.plan.verdict == "fits":
        fitting.append(freed)
        freed = None
    fitting += _on_another_stack(plan, replan, tried)
    searched = _helping(plan, _searched(plan, replan, freed))
    fitting += [item for item in searched if item.plan.verdict == "fits"]
    if not fitting:
        # What does not help alone may help beside another change: 4-bit weights once activations are not kept.
        combined = _combined(plan, replan, [*every, *searched])
        if combined and combined.plan.verdict == "does_not_fit":
            combined = next(_cut_further(combined, replan), None)
        near = [combined] if combined and combined.plan.verdict != "does_not_fit" else [*tried, *searched]
        fitting = [item for item in near if item.plan.verdict != "does_not_fit"]
    fitting.sort(key=lambda item: (item.candidate.rank, _changes_stack(item), item.plan.smallest_bytes))
    shown = [_advice(plan, item) for item in (*fitting[:MOST_SHOWN], *_smaller(plan, replan))]
    alike = {"cards": None} if plan.request.cards else {}
    cards = [
        Advice({"gpu": card.gpu.id} | alike, 0, card.planned_verdict, f"another card: {card.gpu.name}")
        for card in smallest_cards(plan.request)
    ]
    return (*shown, *_several(plan, replan, cannot_hold), *cards)


def _freed(plan: Planned, replan: Replan, tried: Sequence[_Tried]) -> _Tried | None:
    """What is free on the stack that was asked for, put together; None where one such change alone does."""
    free = [item for item in tried if item.candidate.rank == FREE and not _changes_stack(item)]
    return None if any(item.plan.verdict == "fits" for item in free) else _combined(plan, replan, free)


def _on_another_stack(plan: Planned, replan: Replan, tried: Sequence[_Tried]) -> Iterator[_Tried]:
    """What is free with another stack, where that alone does not do."""
    free = [item for item in tried if item.candidate.rank == FREE]
    if not any(_changes_stack(item) for item in free) or any(_does_elsewhere(item) for item in free):
        return
    together = _combined(plan, replan, free)
    if together and _does_elsewhere(together):
        yield together


def _does_elsewhere(item: _Tried) -> bool:
    return _changes_stack(item) and item.plan.verdict == "fits"


def _changes_stack(item: _Tried) -> bool:
    return "stack" in item.candidate.change


def _helping(plan: Planned, tried: Iterable[_Tried]) -> list[_Tried]:
    return [item for item in tried if item.plan.smallest_bytes < plan.smallest_bytes]


def _smaller(plan: Planned, replan: Replan) -> Iterator[_Tried]:
    """The largest smaller model of the family that fits with this recipe as it stands."""
    for model_id in smaller_models(plan):
        change = Candidate({"model": model_id}, "a smaller model of the same family", DIFFERENT)
        for item in _helping(plan, _tried(plan, replan, [change])):
            if item.plan.verdict == "fits":
                yield item
                return


def _several(plan: Planned, replan: Replan, cannot_hold: Callable[[Request], bool]) -> Iterator[Advice]:
    """The fewest cards that do with FSDP, and what a host's memory makes possible; of each kind one."""

    def perhaps(request: Request) -> Planned | None:
        return None if cannot_hold(request) else replan(request)

    kinds: set[object] = set()
    for change in more_cards(plan):
        kind = change.get("fsdp", change.get("device_map", "deepspeed"))
        # Layers in turn are for what cannot be sharded.
        if kind in kinds or ("device_map" in change and kinds):
            continue
        for item in _tried(plan, perhaps, [Candidate(change, "", DIFFERENT)]):
            # What no dry run has shown is tight at best, and still worth naming.
            enough = item.plan.planned_verdict == "fits"
            if enough and item.plan.smallest_bytes < plan.smallest_bytes:
                kinds.add(kind)
                yield replace(_advice(plan, item), cost=cost_of(change, item.plan))


def apply(request: Request, change: Change) -> Request:
    """Return `request` with every dotted path of `change` set.

    Raises:
        InvalidRequestError: the change leads to a request that cannot be used.
    """
    sections: dict[str, Any] = {}
    for path, value in change.items():
        section, _, field = path.partition(".")
        if not field:
            sections[section] = value
            continue
        if section not in sections:
            sections[section] = (getattr(request, section) or CHAPTER_QUANTIZATION).model_dump()
        sections[section][field] = value
    return Request.parse({name: sections.get(name, getattr(request, name)) for name in Request.model_fields})


def _tried(
    plan: Planned, replan: Callable[[Request], Planned | None], candidates: Iterable[Candidate]
) -> Iterator[_Tried]:
    for candidate in candidates:
        try:
            found = replan(apply(plan.request, candidate.change))
        except FitproofError:  # a change this model or its adapters cannot take is no advice
            continue
        if found:
            yield _Tried(candidate, found)


def _searched(plan: Planned, replan: Replan, freed: _Tried | None) -> Iterator[_Tried]:
    """The largest micro-batch and the longest length below the present ones that fit, on top of what is `freed`."""
    if freed is None:
        yield from _cut(plan, replan)
        return
    yield from _on_top(freed, _cut(freed.plan, replan))


def _cut_further(combined: _Tried, replan: Replan) -> Iterator[_Tried]:
    """The longest length that fits with all that helps."""
    return _on_top(combined, _shorter(combined.plan, replan))


def _on_top(first: _Tried, found: Iterable[_Tried]) -> Iterator[_Tried]:
    """What was `found` beyond `first`, as one change of the plan that was asked about."""
    for item in found:
        both = _merged([first.candidate, item.candidate])
        if both:
            yield _Tried(both, item.plan)


def _cut(plan: Planned, replan: Replan) -> Iterator[_Tried]:
    training = plan.recipe.training
    effective = training.per_device_train_batch_size * training.gradient_accumulation_steps
    for smaller in range(training.per_device_train_batch_size - 1, 0, -1):
        if effective % smaller:
            continue
        change = {
            "training.per_device_train_batch_size": smaller,
            "training.gradient_accumulation_steps": effective // smaller,
        }
        cost = f"{effective // smaller} smaller micro-batches per step; same effective batch of {effective}"
        found = list(_tried(plan, replan, [Candidate(change, cost, SLOWER)]))
        if found and (found[0].plan.verdict == "fits" or smaller == 1):
            yield found[0]
            break
    yield from _shorter(plan, replan)


def _shorter(plan: Planned, replan: Replan) -> Iterator[_Tried]:
    step = 64
    training = plan.recipe.training
    before = training.max_length
    # What GRPO generates keeps its length, and a prompt comes before it.
    kept = training.completion // step if plan.recipe.objective == "grpo" else 0

    @cache
    def at(steps: int) -> _Tried:
        length = (kept + steps) * step
        change = {"training.max_length": length}
        cost = f"examples cut at {length:,} tokens instead of {before:,}"
        return _Tried(Candidate(change, cost, DIFFERENT), replan(apply(plan.request, change)))

    def room(steps: int) -> int:
        return at(steps).plan.usable_bytes - at(steps).plan.estimate.enough_bytes

    steps = largest(lambda count: at(count).plan.verdict == "fits", (before - 1) // step - kept, room)
    if steps:
        yield at(steps)


def _combined(plan: Planned, replan: Replan, helping: Sequence[_Tried]) -> _Tried | None:
    """Add one change after another, the cheapest that save most first, until it fits; else as far as they go."""
    ordered = sorted(helping, key=lambda item: (item.candidate.rank, item.plan.smallest_bytes))
    chosen: list[Candidate] = []
    best: _Tried | None = None
    for item in ordered:
        attempt = _merged([*chosen, item.candidate])
        if attempt is None or len(chosen) == LONGEST_COMBINATION:
            continue
        for tried in _tried(plan, replan, [attempt]):
            if tried.plan.smallest_bytes < (best.plan if best else plan).smallest_bytes:
                chosen.append(item.candidate)
                best = tried
                if best.plan.verdict == "fits":
                    return _pruned(plan, replan, chosen, tried)
    return best


def _pruned(plan: Planned, replan: Replan, chosen: Sequence[Candidate], enough: _Tried) -> _Tried:
    """Leave out what it fits without, the dearest first."""
    kept = list(chosen)
    for candidate in sorted(chosen[:-1], key=lambda item: -item.rank):
        fewer = _merged([other for other in kept if other is not candidate])
        for tried in _tried(plan, replan, [fewer] if fewer else []):
            if tried.plan.verdict == "fits":
                kept.remove(candidate)
                enough = tried
    return enough


def _merged(candidates: Sequence[Candidate]) -> Candidate | None:
    """Several changes as one; None where two of them set the same field."""
    change: dict[str, Any] = {}
    for candidate in candidates:
        if change.keys() & candidate.change.keys():
            return None
        change |= candidate.change
    costs = dict.fromkeys(candidate.cost.removeprefix("none; ").removeprefix("none") for candidate in candidates)
    return Candidate(change, "; ".join(filter(None, costs)) or "none", max(candidate.rank for candidate in candidates))


def _advice(plan: Planned, item: _Tried) -> Advice:
    saves_bytes = plan.smallest_bytes - item.plan.smallest_bytes
    candidate = item.candidate
    return Advice(dict(candidate.change), saves_bytes, item.plan.verdict, candidate.cost, candidate.rank == FREE)
