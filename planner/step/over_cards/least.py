"""What some card holds at the least, however a step's layers are spread over cards: known without placing a tensor."""

from collections.abc import Sequence

from planner.families.parts import Decoder
from planner.gpu import Gpu
from planner.request.recipe import Recipe
from planner.step.engine.program import Segment
from planner.step.lines import program_order_and_tables


def least_on_a_card_bytes(decoder: Decoder, recipe: Recipe, gpu: Gpu) -> int:
    """The most that one layer, or the loss, has made and not yet let go of: all of it is on the card that computes
    there, but for one tensor of the loss, the logits that accelerate converts on the first card (play.py).
    """
    program, _, tables = program_order_and_tables(decoder, recipe, gpu)
    segments = (each for each in program.segments if each.kind is not None or each.phase == "loss")
    return max(_made_at_once_bytes(each, tables) for each in segments)


def _made_at_once_bytes(segment: Segment, tables: Sequence[Sequence[int]]) -> int:
    table, here = tables[segment.kind or 0], set[int]()
    level = highest = 0
    for move, born in zip(segment.moves, segment.births, strict=True):
        if move >= 0:
            here.add(born)
            level += table[move]
            highest = max(highest, level)
        elif born in here:
            here.remove(born)
            level -= table[~move]
    elsewhere = max((table[move] for move in segment.moves if move >= 0), default=0) if segment.kind is None else 0
    return highest - elsewhere
