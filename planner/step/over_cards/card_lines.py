"""The lines of a step on each of several cards."""

from planner.families.parts import Attention, Decoder, Latent
from planner.gpu import Gpu
from planner.ledger import Line
from planner.request.recipe import Recipe
from planner.step.from_recipe.derive_switches import switches_of
from planner.step.legend import shown_name
from planner.step.lines import lines_at, numbers_by_kind, program_order_and_tables
from planner.step.over_cards.moves import instants_on_card
from planner.step.over_cards.play import Places, moves_on_cards


def lines_on_card(decoder: Decoder, recipe: Recipe, gpu: Gpu, places: Places, card: int) -> tuple[Line, ...]:
    """What is alive beside one card's standing lines at the worst instant of each of its phases; `gpu` is that card."""
    program, order, tables = program_order_and_tables(decoder, recipe, gpu)
    moves = moves_on_cards(program, order, places)[card]
    return lines_at(instants_on_card(program, moves, tables, shown_name), numbers_by_kind(decoder, recipe, gpu))


def windowed_layers(decoder: Decoder) -> tuple[bool, ...]:
    """Whether each layer attends within a window."""
    attentions = [block.attention for block in decoder.structure.blocks]
    of_kind = [isinstance(kind, Attention | Latent) and bool(kind.window) for kind in attentions]
    return tuple(of_kind[kind] for kind in decoder.order)


def converts_logits(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> bool:
    """Whether accelerate turns logits of 16 bit into float32 once the model has returned."""
    return bool(switches_of(decoder, recipe, gpu).autocast) and not decoder.structure.logits_float
