"""More of the same cards: how many do with FSDP, on the host as well, what ZeRO-3 keeps there, and layers in turn.

`device_map` comes last, and only where FSDP of as many cards does not do: one of its cards computes at a time.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from planner.answer.planned import Planned
from planner.units import format_gib

# What people rent and build: pairs, fours, and nodes of eight.
COUNTS = (2, 4, 8)
Change = Mapping[str, Any]


def more_cards(plan: Planned) -> Iterator[Change]:
    """Changes to try, fewest cards first; where one fits, more of its kind need not be tried."""
    request, world = plan.request, plan.recipe.layout.world
    if request.deepspeed or request.device_map:
        return
    storage = {"quantization.bnb_4bit_quant_storage": "bfloat16"} if _in_4bit(plan) else {}
    alone = {"ddp": None} if request.ddp else {}
    for count in COUNTS:
        if count > world or (count == world and request.fsdp is None):
            yield {"gpus": count, "fsdp": "full_shard", **storage, **alone}
    offloaded = request.fsdp is not None and request.fsdp.cpu_offload
    if not offloaded:
        yield {"gpus": max(2, world), "fsdp": "full_shard offload", **storage, **alone}
    if plan.recipe.method == "full" and request.fsdp is None:
        yield {"deepspeed": "zero3-offload", **alone}
    if request.fsdp is None:
        full = {"training.loss": "full_logits"} if plan.recipe.loss == "chunked" else {}
        for count in COUNTS:
            if count > world:
                yield {"gpus": count, "device_map": "auto", **full, **alone}


def cost_of(change: Change, found: Planned) -> str:
    """What more cards cost, in words."""
    on_host = f"; {format_gib(found.host_bytes)} of host memory for each process" if found.host_bytes else ""
    if "device_map" in change:
        return f"{change['gpus']} of these cards with layers in turn: one computes at a time, so steps are no faster"
    if "deepspeed" in change:
        return f"ZeRO-3, all of it on the host, and slower steps{on_host}"
    return f"{found.recipe.layout.world} of these cards, sharded{on_host}"


def _in_4bit(plan: Planned) -> bool:
    quantization = plan.recipe.quantization
    return quantization is not None and quantization.load_in_4bit and quantization.bnb_4bit_quant_storage == "uint8"
