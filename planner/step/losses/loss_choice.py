"""Which loss runs, and how Liger's head works."""

from planner.errors import FieldProblem, NotPlannedError
from planner.families.parts import Decoder
from planner.request.recipe import Recipe
from planner.request.training_options import LigerKernels
from planner.step import liger_models
from planner.step.switches import Copies, LigerHead, LigerPatches


def loss_that_runs(decoder: Decoder, recipe: Recipe) -> str:
    """The loss that runs: where Liger does not replace it, the model's own."""
    fused = decoder.model_type in liger_models.REPLACED - liger_models.KEEPS_LOGITS
    return "full_logits" if recipe.loss == "liger" and not fused else recipe.loss


def merges_head(decoder: Decoder, recipe: Recipe) -> bool:
    """Whether the head is an embedding with trained rows among the others.

    Raises:
        NotPlannedError: its loss reads the head's weight by itself.
    """
    if not (recipe.lora and recipe.lora.trainable_token_indices and decoder.structure.tied):
        return False
    loss = loss_that_runs(decoder, recipe)
    if loss == "full_logits" and recipe.objective == "sft":
        return True
    fix = (
        "TRL's fused head fails on the head that PEFT wraps for it, as this model's is its embedding (it asks for a "
        "bias); write training.loss full_logits"
        if loss == "chunked"
        else f"beside {loss} and {recipe.objective} no formula follows a head that is the embedding; use full_logits"
    )
    raise NotPlannedError("These tokens cannot be planned.", [FieldProblem("lora.trainable_token_indices", fix)])


def liger_kernels(decoder: Decoder, recipe: Recipe) -> LigerPatches:
    """Those of `liger_kernel_config`; without one the defaults of each apply_liger_kernel_to_*, with Liger's loss."""
    asked = recipe.training.liger_kernel_config or (LigerKernels() if recipe.loss == "liger" else None)
    if decoder.model_type not in liger_models.REPLACED or asked is None:
        return LigerPatches()
    keeps_logits = decoder.model_type in liger_models.KEEPS_LOGITS and recipe.loss == "liger"
    # Where experts stand beside an MLP, it patches neither (apply_liger_kernel_to_gemma4_text, enable_moe_block).
    patches_mlp = asked.swiglu and not any(block.parallel_experts for block in decoder.structure.blocks)
    return LigerPatches(asked.rope, asked.rms_norm, patches_mlp, asked.cross_entropy or keeps_logits)


def liger_head(recipe: Recipe, copies: Copies, capability: tuple[int, int] | None) -> LigerHead:
    """liger-kernel 0.8.5 ops/fused_linear_cross_entropy.py: its questions about dtypes and the card, answered."""
    held = recipe.copied_dtype if copies.head else "float32" if recipe.kbit_preparation else recipe.model_dtype
    logits = recipe.autocast or held
    return LigerHead(
        casts=logits != held,
        adds_in_place=(capability or (8, 0)) >= (8, 0) and logits != "float32" and held in {"float32", logits},
    )
