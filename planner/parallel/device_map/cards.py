"""The cards of a run and what lies where: from a recipe's words to places."""

from collections.abc import Sequence

from planner.errors import InvalidRequestError
from planner.families.parts import Decoder
from planner.gpu import Gpu
from planner.overheads.ranges import card_context_band
from planner.parallel.device_map.modules import modules_of
from planner.parallel.device_map.spread import Spread, spread_of
from planner.request.parallel import DeviceMap
from planner.request.recipe import Recipe
from planner.request.unprobed import FUSED_HEAD_OVER_CARDS
from planner.step.over_cards.card_lines import converts_logits, windowed_layers
from planner.step.over_cards.play import Places
from planner.tensors.tensor_storage import Placed


def spread_over(placed: Sequence[Placed], recipe: Recipe, gpus: Sequence[Gpu], layers: int) -> Spread:
    """Which card has what. Each has what the driver leaves of it once a context is there.

    Raises:
        InvalidRequestError: the run fails with this loss.
        NotImplementedError: weights whose sizes accelerate counts otherwise, or a step that is played on one card.
    """
    if recipe.quantization is not None and recipe.quantization.quant_method != "bitsandbytes":
        msg = f"device_map over several cards of {recipe.quantization.quant_method} weights"
        raise NotImplementedError(msg)
    if recipe.objective != "sft":
        msg = f"device_map over several cards for {recipe.objective}"
        raise NotImplementedError(msg)
    if recipe.loss == "chunked":
        raise InvalidRequestError("This run stops at its first loss.", [FUSED_HEAD_OVER_CARDS])
    if recipe.loss != "full_logits":
        msg = f"device_map over several cards with the {recipe.loss} loss"
        raise NotImplementedError(msg)
    options = recipe.strategy if isinstance(recipe.strategy, DeviceMap) else DeviceMap()
    free_bytes = [gpu.usable_bytes - card_context_band(gpu).likely for gpu in gpus]
    modules = modules_of(placed, recipe, layers)
    return spread_of(modules, options, free_bytes, quantized=recipe.quantization is not None)


def places_of(spread: Spread, decoder: Decoder, recipe: Recipe, gpus: Sequence[Gpu]) -> Places:
    """The same for a step; each module is on some card."""
    return Places(
        layers=spread.layers, embedding=spread.embedding, norm=spread.norm, rotary=spread.rotary, head=spread.head,
        windowed=windowed_layers(decoder), converts=converts_logits(decoder, recipe, gpus[0]), cards=len(gpus),
    )  # fmt: skip
