"""What people do not expect of `device_map` over several cards."""

from planner.answer.planned import Planned
from planner.answer.warnings.notice import Notice, Replan


def layers_on_the_host(plan: Planned, _: Replan) -> Notice | None:
    """Layers that no card has room for: accelerate puts them on the host, and nothing there is trained."""
    if plan.spread is None or not plan.spread.on_host:
        return None
    named = "an explicit map" if isinstance(plan.request.device_map, dict) else f"device_map {plan.request.device_map}"
    fix = "raise max_memory" if plan.request.max_memory else "take more or larger cards, or quantize the base"
    # transformers quantizers/quantizer_bnb_4bit.py validate_environment; accelerate/accelerator.py prepare_model.
    message = (
        f"{named} puts {plan.spread.on_host} of the model's modules in host memory, and training refuses weights there "
        f"({fix}). Their bytes are counted on the last card."
    )
    return Notice("device_map_spills", message)


def one_card_at_a_time(plan: Planned, _: Replan) -> Notice | None:
    """Layers in turn: what is gained is room."""
    if plan.spread is None:
        return None
    message = (
        f"device_map spreads layers over {plan.recipe.layout.world} cards, of which one computes at a time: steps take "
        "as long as on one card. DDP or FSDP (torchrun) has all of them compute, where it fits."
    )
    return Notice("one_card_at_a_time", message)
