"""Which projections of a decoder have adapters of a rank of their own (`rank_pattern`)."""

from collections.abc import Mapping
from functools import lru_cache

from planner.families.census import census_of
from planner.families.parts import Decoder
from planner.request.lora import Lora
from planner.tensors.targets import adapted_weights

_NONE: Mapping[str, int] = {}


def own_ranks(decoder: Decoder, lora: Lora) -> Mapping[str, int]:
    """Their names within a layer, and their ranks."""
    return _own_ranks(decoder, lora) if lora.rank_pattern else _NONE


@lru_cache(maxsize=256)
def _own_ranks(decoder: Decoder, lora: Lora) -> Mapping[str, int]:
    prefixes = {block.prefix for block in decoder.structure.blocks}
    found = {}
    for weight in adapted_weights(census_of(decoder), decoder.model_type, lora):
        prefix = next((prefix for prefix in prefixes if weight.name.startswith(prefix)), "")
        if weight.rank != lora.r:
            found[weight.name.removeprefix(prefix)] = weight.rank
    return found
