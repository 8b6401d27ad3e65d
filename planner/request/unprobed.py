"""What of a run no probe plays, of Unsloth or on several cards: each with the fix, for a page and for the probe."""

from collections.abc import Iterator

from planner.errors import FieldProblem
from planner.request.parallel import Fsdp
from planner.request.recipe import Recipe
from planner.request.unsloth import UNSLOTH

_OWN_SCRIPT = "`fitproof dry-run --gpus N -- torchrun …` plays your own script"


def unprobed(recipe: Recipe, instrument: str) -> Iterator[FieldProblem]:
    """Problems of a recipe of Unsloth and of one on several cards; of another on one card there are none here."""
    layout, options = recipe.layout, recipe.strategy
    if recipe.stack_name == UNSLOTH:
        fix = "the probe runs transformers and peft; `fitproof dry-run --gpu CARD -- python FILE` plays your own script"
        yield FieldProblem("stack", fix)
    if layout.strategy == "single":
        return
    if instrument != "dry-run":
        yield FieldProblem("instrument", "has one device; several cards are played by dry-run, a virtual one a rank")
    if layout.strategy == "zero":
        yield FieldProblem("deepspeed", f"the probe's environment has no DeepSpeed; {_OWN_SCRIPT}")
    if layout.strategy == "device_map":
        yield FieldProblem("device_map", f"one model over several cards is not probed; {_OWN_SCRIPT}")
    if recipe.objective != "sft":
        yield FieldProblem("training.objective", f"several cards are probed for sft alone; {_OWN_SCRIPT}")
    if layout.strategy != "fsdp":
        return
    if recipe.quantization is not None:
        yield FieldProblem("quantization", f"FSDP of quantized weights is not probed; {_OWN_SCRIPT}")
    if not recipe.training.optim.startswith("adamw_torch"):
        fix = f"{recipe.training.optim} knows no DTensor, which FSDP2's parameters are; write adamw_torch_fused"
        yield FieldProblem("training.optim", fix)
    if isinstance(options, Fsdp) and options.hybrid_shard and layout.world % layout.parameter_shards:
        yield FieldProblem(
            "fsdp.cards_per_node", f"must divide {layout.world} cards into nodes of {layout.parameter_shards}"
        )
