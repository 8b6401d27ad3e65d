"""How many of one card a run needs, sharded over them."""

from planner.answer.plan import Plan, plan
from planner.answer.ways_to_fit.advice import apply
from planner.answer.ways_to_fit.more_cards import COUNTS
from planner.errors import FitproofError
from planner.gpu import Gpu
from planner.model.model import Model
from planner.request.schema import Request


def fewest_cards(request: Request, *, model: Model, gpu: Gpu) -> Plan | None:
    """`request` on the fewest of 1 and `COUNTS` cards that fit it, several with FSDP's full shard; None if none do.

    A request for several cards has chosen its strategy: None, too. What is planned fits; `verdict` may be tight, where
    no dry run has shown the strategy.
    """
    if request.gpus > 1:
        return None
    for count in (1, *COUNTS):
        try:
            found = plan(request if count == 1 else _sharded(request, count), model=model, gpu=gpu)
        except FitproofError:  # a recipe that cannot be sharded
            return None
        if found.planned_verdict == "fits":
            return found
    return None


def _sharded(request: Request, count: int) -> Request:
    """Over `count` cards. FSDP shards 4-bit weights in whole only where they are stored as bfloat16.

    Source: bitsandbytes, docs/source/fsdp_qlora.md, "Quantized data storage".
    """
    change: dict[str, object] = {"gpus": count, "fsdp": "full_shard", "ddp": None, "deepspeed": None}
    if request.quantization is not None and request.quantization.load_in_4bit:
        change["quantization.bnb_4bit_quant_storage"] = "bfloat16"
    return apply(request, {**change, "device_map": None})
