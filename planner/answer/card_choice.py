"""Which larger cards are worth suggesting: one of each memory tier, the most common first."""

from planner.catalog.gpu_rows import Card, gpu_catalog
from planner.gpu import Gpu
from planner.request.recipe import Recipe

# No prices are kept here. What is sold for desks is cheaper than what is built for servers, a laptop is no card to add.
_FORMS = ("desktop", "workstation", "workstation/server", "datacenter")


def cards_for(recipe: Recipe, vendor: str) -> list[Gpu]:
    """Cards of one vendor that run this recipe's dtypes, in each tier of memory the likeliest to be cheap first.

    Within a tier the form decides, then age (compute capability), then bandwidth. A card made for one country is not
    named, nor one that lacks bfloat16 for a recipe that computes in it.
    """
    halves = "bfloat16" in (recipe.compute_dtype, recipe.autocast, recipe.model_dtype)
    cards = [card for card in gpu_catalog().cards.values() if card.row.form in _FORMS and not card.row.sold_in]
    cards.sort(key=_cheapest_first)
    return [
        card.gpu
        for card in cards
        if card.gpu is not None
        and card.gpu.vendor == vendor
        and card.gpu.nominal_gb
        and (card.gpu.bitsandbytes_4bit or recipe.method != "qlora")
        and (card.gpu.native_bfloat16 or not halves)
    ]


def _cheapest_first(card: Card) -> tuple[float, int, tuple[int, int], float, str]:
    row = card.row
    return (
        row.nominal_gb or 0,
        _FORMS.index(row.form),
        row.capability or (99, 0),
        row.bandwidth_gb_s or 0.0,
        row.id,
    )
