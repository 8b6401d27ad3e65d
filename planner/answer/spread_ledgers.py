"""What each card of a model that is spread over several by `device_map` holds; the fullest decides."""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.answer.static_lines import summing_of, trained_tensors
from planner.catalog import resolve_gpu
from planner.gpu import Gpu
from planner.ledger import Ledger, Line
from planner.memory.runtime import runtime_lines
from planner.model.model import Model
from planner.overheads.ranges import card_context_band
from planner.parallel.device_map.cards import places_of, spread_over
from planner.parallel.device_map.spread import HOST, Spread
from planner.parallel.device_map.standing import standing_on_card
from planner.request.parallel import DeviceMap
from planner.request.recipe import Recipe
from planner.step.over_cards.card_lines import lines_on_card
from planner.step.recorded import nearest, step_words, workspace_words
from planner.tensors.tensor_storage import place


@dataclass(frozen=True, slots=True)
class CardLedger:
    """One card: which it is, what lies on it, and its lines."""

    number: int
    gpu: Gpu
    layers: tuple[int, ...]
    ledger: Ledger

    @property
    def free_bytes(self) -> int:
        """What is left beside the peak and the context; negative where it is too small."""
        return self.gpu.usable_bytes - self.ledger.peak().allocated_bytes - round(card_context_band(self.gpu).likely)


@dataclass(frozen=True, slots=True)
class SpreadLedgers:
    """All cards of a run, and how many of its modules none of them has room for, which training refuses."""

    cards: tuple[CardLedger, ...]
    on_host: int

    @property
    def fullest(self) -> CardLedger:
        """The card with the least room."""
        return min(self.cards, key=lambda card: card.free_bytes)


def spread_ledgers(model: Model, recipe: Recipe, gpu: Gpu) -> SpreadLedgers:
    """One ledger a card. `gpu` is what all are, unless the recipe names unlike ones.

    Raises:
        NotImplementedError: no formula knows this way of running it; says which.
        FitproofError: the names lead nowhere, the LoRA targets match nothing.
    """
    names = recipe.strategy.cards if isinstance(recipe.strategy, DeviceMap) else ()
    gpus = [resolve_gpu(name) for name in names] or [gpu] * recipe.layout.world
    placed, tensors = place(model.census, recipe), trained_tensors(model, recipe)
    layers = model.decoder.layers if model.decoder else 1
    spread = spread_over(placed, recipe, gpus, layers)
    counted = _on_cards(spread, len(gpus) - 1)
    places = places_of(counted, model.decoder, recipe, gpus) if model.decoder else None
    cards = []
    for number, own in enumerate(gpus):
        summing = summing_of(recipe, own)
        column_means = summing.column_means_bytes if summing else None
        lines: list[Line] = standing_on_card(placed, tensors, recipe, counted, number, column_means)
        if model.decoder is not None and places is not None:
            comparison = nearest("step", step_words(model.decoder, recipe, own)).of_several_cards()
            lines += comparison.labelled(lines_on_card(model.decoder, recipe, own, places, number))
        computes = bool(counted.modules_on(number))
        ledger = Ledger.of((*lines, *_runtime(own, computes=computes)))
        cards.append(CardLedger(number, own, spread.layers_on(number), ledger))
    return SpreadLedgers(tuple(cards), spread.on_host)


def _on_cards(spread: Spread, last: int) -> Spread:
    """What no card has room for counts on the last one."""

    def on(card: int) -> int:
        return last if card == HOST else card

    return Spread(tuple(map(on, spread.layers)), *map(on, (spread.embedding, spread.norm, spread.rotary, spread.head)))


def _runtime(gpu: Gpu, *, computes: bool) -> Sequence[Line]:
    """The context, and cuBLAS's workspaces where the card computes anything."""
    context = card_context_band(gpu)
    lines = runtime_lines(gpu.compute_capability, context_bytes=round(context.likely), context_source=context.source)
    if not computes:
        lines = [line for line in lines if not line.alive_in]
    return nearest("workspace", workspace_words(gpu.compute_capability)).labelled(lines)
