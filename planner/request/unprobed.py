"""What of a run no probe plays, of Unsloth or on several cards: each with the fix, for a page and for the probe."""

from collections.abc import Iterator

from planner.errors import FieldProblem
from planner.request.parallel import DeepSpeed, DeviceMap, Fsdp
from planner.request.recipe import Recipe
from planner.request.unsloth import UNSLOTH

_OWN_SCRIPT = "`fitproof dry-run --gpus N -- torchrun …` plays your own script"

# trl 1.16 sft_trainer.py compute_loss divides a sum on the last card by a count on the first.
FUSED_HEAD_OVER_CARDS = FieldProblem(
    "training.loss", "TRL's fused head fails on a model that lies on several cards; write full_logits"
)


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
    if recipe.objective != "sft":
        yield FieldProblem("training.objective", f"several cards are probed for sft alone; {_OWN_SCRIPT}")
    elif layout.strategy == "device_map" and recipe.loss == "chunked":
        yield FUSED_HEAD_OVER_CARDS
    if isinstance(options, DeviceMap) and options.uses_the_host:
        yield FieldProblem("device_map", "puts modules on the host, which training refuses; name cards alone")
    if layout.sequence_by:
        yield FieldProblem("parallelism_config", f"the probe cuts no sequences; {_OWN_SCRIPT}")
    if layout.strategy == "zero":
        yield from _of_zero(recipe, options if isinstance(options, DeepSpeed) else DeepSpeed())
    elif layout.strategy == "fsdp":
        yield from _of_fsdp(recipe, options if isinstance(options, Fsdp) else Fsdp())


def _of_zero(recipe: Recipe, options: DeepSpeed) -> Iterator[FieldProblem]:
    if recipe.quantization is not None and options.stage == 3:
        yield FieldProblem("quantization", f"ZeRO 3 of quantized weights is not probed; {_OWN_SCRIPT}")
    if "nvme" in {options.offload_optimizer, options.offload_param}:
        yield FieldProblem("deepspeed", "a probe has no disk to offload to; write cpu")


def _of_fsdp(recipe: Recipe, options: Fsdp) -> Iterator[FieldProblem]:
    quantization, layout = recipe.quantization, recipe.layout
    if quantization is not None and not quantization.load_in_4bit:
        yield FieldProblem("quantization", f"of quantized weights FSDP is probed with 4 bit alone; {_OWN_SCRIPT}")
    elif quantization is not None and options.version == 1 and quantization.bnb_4bit_quant_storage == "uint8":
        # torch/distributed/fsdp/_flat_param.py, "Cannot flatten integer dtype tensors"
        yield FieldProblem("quantization.bnb_4bit_quant_storage", "FSDP1 flattens no integers; write bfloat16")
    if not recipe.training.optim.startswith("adamw_torch"):
        fix = f"{recipe.training.optim} knows no DTensor, which FSDP2's parameters are; write adamw_torch_fused"
        yield FieldProblem("training.optim", fix)
    if options.hybrid_shard and layout.world % layout.parameter_shards:
        yield FieldProblem(
            "fsdp.cards_per_node", f"must divide {layout.world} cards into nodes of {layout.parameter_shards}"
        )
