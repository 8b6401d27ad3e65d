"""What the fullest of several cards holds: its shards, what is whole on every card, what is in flight."""

from collections.abc import Callable, Iterable

from app.drawing.bars import Bars, Row, draw_bars
from app.views.messages import short_gpu_name
from planner.answer.plan import Plan, plan
from planner.answer.spread_ledgers import SpreadLedgers
from planner.errors import FitproofError
from planner.ledger import Line
from planner.overheads.ranges import card_context_band
from planner.parallel import ddp, fsdp, zero
from planner.request.layout import Layout

WORDS = {
    "shards": "This card’s shards",
    "whole": "Whole on every card",
    "flight": "In flight: gathered layers, buckets",
    "batch": "Its own batch",
    "outside": "Outside torch’s tensors",
}
COLOURS = {"shards": "weights", "whole": "gradients", "flight": "logits", "batch": "activations", "outside": "rest"}
_IN_FLIGHT = frozenset({
    ddp.BUCKETS, fsdp.PARAMETERS, fsdp.GATHERING, fsdp.EARLIER, fsdp.REDUCING, fsdp.REDUCED, zero.BUCKETS,
    zero.PARAMETERS,
})  # fmt: skip
_OWN = ("weights", "adapters", "gradients", "optimizer")


def draw_ranks(planned: Plan) -> Bars:
    """The fullest card, the others, and the same run on one card alone, where that can be planned.

    Rows are cut into equal parts, the last of them smaller: rank 0 never holds less than another.
    """
    if planned.spread:
        return _draw_cards(planned, planned.spread)
    world, parts = planned.recipe.layout.world, parts_of(planned)
    others = "rank 1" if world == 2 else f"each of ranks 1 to {world - 1}"
    rows = [Row("rank 0, the fullest", parts, marked=True), Row(f"{others}, at most", parts)]
    alone = _alone(planned)
    if alone:
        rows.append(Row("the same run on one card alone", parts_of(alone)))
    return draw_bars(rows, planned.usable_bytes)


def words_of(planned: Plan) -> dict[str, str]:
    """What the parts are called: a card of `device_map` has layers of its own, and nothing that others have, too."""
    return WORDS if planned.spread is None else WORDS | {"shards": "Weights and training state of its own layers"}


def _draw_cards(planned: Plan, spread: SpreadLedgers) -> Bars:
    """Each card of a `device_map` at its own fullest moment."""
    rows = []
    for card in spread.cards:
        phase, parts = card.ledger.peak(), dict.fromkeys(WORDS, 0)
        for line in card.ledger.lines:
            if phase.name in line.alive_in:
                parts["shards" if line.cause in _OWN else "batch"] += line.bytes
        parts["outside"] = round(card_context_band(card.gpu).likely)
        layers = "1 layer" if len(card.layers) == 1 else f"{len(card.layers)} layers"
        fullest = card.number == spread.fullest.number
        name = f"card {card.number}, {short_gpu_name(card.gpu.name)}: {layers}{', the fullest' if fullest else ''}"
        rows.append(Row(name, parts, marked=fullest))
    return draw_bars(rows, planned.usable_bytes)


def parts_of(planned: Plan) -> dict[str, int]:
    """Likely bytes of one card by kind, at its fullest moment."""
    return parts_by(planned, WORDS, lambda line: _kind(line, planned.recipe.layout))


def parts_by(planned: Plan, kinds: Iterable[str], kind_of: Callable[[Line], str]) -> dict[str, int]:
    """Likely bytes at the fullest moment; what no line has is outside torch."""
    parts = dict.fromkeys(kinds, 0)
    for line in planned.lines:
        if planned.peak_phase in line.alive_in:
            parts[kind_of(line)] += line.bytes
    parts["outside"] += planned.required_bytes.likely - sum(parts.values())
    return parts


def _kind(line: Line, layout: Layout) -> str:
    if line.name in _IN_FLIGHT:
        return "flight"
    if line.cause not in _OWN:
        return "batch"
    if "this card's" in line.name:
        return "shards"
    shards = layout.optimizer_shards if line.cause == "optimizer" else layout.gradient_shards
    if line.cause in ("weights", "adapters") or shards == 1:
        return "whole"
    # A gradient is whole from where it is made to where it is reduced; the step finds its shard.
    return "shards" if "optimizer" in line.alive_in else "flight"


def _alone(planned: Plan) -> Plan | None:
    strategies = dict.fromkeys(("ddp", "fsdp", "deepspeed", "device_map", "max_memory", "cards"))
    request = planned.request.model_copy(update={"gpus": 1, **strategies})
    try:
        return plan(request, model=planned.model, gpu=planned.gpu)
    except FitproofError:
        return None
