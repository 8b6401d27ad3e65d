"""Layers that differ by their place alone: offloading keeps the latest inputs on the card, so that the first layers
find fewer of them than later ones, and the last finds those of the loss.
"""

from dataclasses import replace
from functools import lru_cache

from planner.families.parts import Decoder
from planner.request.recipe import Recipe
from planner.step.engine.offloading import STASH
from planner.step.from_recipe.adapted_layers import by_adapters


def by_kinds(decoder: Decoder, recipe: Recipe) -> Decoder:
    """`decoder` with a kind for all layers that make the same events in the step of this recipe.

    Raises:
        NotPlannedError: hundreds of layers differ.
    """
    decoder = by_adapters(decoder, recipe.lora)
    return _by_place(decoder) if recipe.offloads else decoder


@lru_cache(maxsize=256)
def _by_place(decoder: Decoder) -> Decoder:
    """The first layers and the last one are each of a kind of their own; kinds are numbered by first place.

    The first input that the stash lets go of is the embedded tokens, which the graph holds; from the next on, one goes
    for one that comes.
    """
    first, last = STASH + 1, decoder.layers - 1
    alike = [
        (kind, layer if layer < first or layer == last else first) for layer, kind in enumerate(decoder.order)
    ]
    kinds = {own: number for number, own in enumerate(dict.fromkeys(alike))}
    return replace(
        decoder,
        structure=replace(decoder.structure, blocks=tuple(decoder.structure.blocks[kind] for kind, _ in kinds)),
        kind_sizes=tuple(decoder.kind_sizes[kind] for kind, _ in kinds),
        order=tuple(kinds[own] for own in alike),
    )
