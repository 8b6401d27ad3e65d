"""The chapter's pitfalls: too large a base, and dtypes that cost memory, speed or quality."""


from planner.answer.planned import Planned
from planner.answer.warnings.notice import Notice, Replan, cost_bytes, four_bit_of
from planner.units import format_gib


def base_too_large(plan: Planned, _: Replan) -> Notice | None:
    """The weights alone, before a single token."""
    base_bytes = sum(
        line.bytes for line in plan.lines if line.cause == "weights" and {"load", "backward"} <= set(line.alive_in)
    )
    if base_bytes <= plan.usable_bytes:
        return None
    kind = "quantized base model" if plan.recipe.quantization else "base model"
    message = f"The {kind} alone is {format_gib(base_bytes)}; this card gives torch {format_gib(plan.usable_bytes)}."
    return Notice("base_too_large", message, base_bytes)


def not_cuda(plan: Planned, _: Replan) -> Notice | None:
    """A card whose kernels and allocator the formulas do not follow."""
    if plan.gpu.vendor == "NVIDIA":
        return None
    message = (
        f"The formulas follow CUDA: its kernels, its allocator, its context. None of it was held to {plan.gpu.vendor} "
        "cards, where kernels keep other tensors: take the answer as a guide, and probe."
    )
    return Notice("not_cuda", message)


def bitsandbytes_unsupported(plan: Planned, _: Replan) -> Notice | None:
    """bitsandbytes does not list the platform."""
    quantization = plan.recipe.quantization
    if plan.gpu.bitsandbytes_4bit or quantization is None or quantization.quant_method != "bitsandbytes":
        return None
    message = f"bitsandbytes does not list {plan.gpu.name} for 4-bit training; check that it runs there at all."
    return Notice("bitsandbytes_unsupported", message)


def bf16_unsupported(plan: Planned, _: Replan) -> Notice | None:
    """bfloat16 on a card that emulates it."""
    recipe = plan.recipe
    if plan.gpu.native_bfloat16 or "bfloat16" not in (recipe.compute_dtype, recipe.autocast, recipe.model_dtype):
        return None
    message = (
        f"{plan.gpu.name} has no bfloat16 units (compute capability below 8.0): it runs, slowly. "
        "Use float16 for bnb_4bit_compute_dtype and autocast."
    )
    return Notice("bf16_unsupported", message)


def unscalable_gradients(plan: Planned, _: Replan) -> Notice | None:
    """float16 autocast over what is trained in 16 bit: the stack's GradScaler refuses its gradients."""
    if not plan.recipe.cannot_unscale:
        return None
    if plan.recipe.trained_dtype == "float32":
        return Notice(
            "unscalable_gradients",
            "This run fails at its first optimizer step: PEFT copies whole modules in the dtype of their originals, "
            "and torch's GradScaler, which float16 autocast brings, takes no float16 gradients. Train in bfloat16, or "
            "use the kbit stack, whose originals are float32.",
        )
    return Notice(
        "unscalable_gradients",
        "This run fails at its first optimizer step: TRL casts the adapters of a quantized model to bfloat16, and "
        "torch's GradScaler, which float16 autocast brings, has no CUDA kernel for bfloat16 gradients. Train in "
        "bfloat16, or use the trainer stack, whose adapters are float32.",
    )


def fused_head_unsupported(plan: Planned, _: Replan) -> Notice | None:
    """TRL's fused output head in bfloat16 on a card that is too old for its product."""
    recipe, capability = plan.recipe, plan.gpu.compute_capability
    if recipe.loss != "chunked" or (recipe.autocast or recipe.model_dtype) != "bfloat16":
        return None
    if capability is None or capability >= (8, 0):
        return None
    # trl/kernels/chunked_logprob.py, _addmm_fp32; aten/src/ATen/native/cuda/Blas.cpp checks the capability.
    return Notice(
        "fused_head_unsupported",
        f"This run fails in its first backward pass on {plan.gpu.name}: TRL 1.16's fused output head adds bfloat16 "
        "products up in float32, which torch does from compute capability 8.0 on. Train in float16, or set the loss "
        "to full_logits.",
    )


def flash_attention_unsupported(plan: Planned, _: Replan) -> Notice | None:
    """FlashAttention 2 on a card that it has no kernels for: it raises in the first forward pass.

    Source: its README, "NVIDIA CUDA Support": Ampere, Ada or Hopper; csrc/flash_attn/flash_api.cpp, mha_fwd.
    """
    capability = plan.gpu.compute_capability
    if plan.recipe.training.attn_implementation != "flash_attention_2" or capability is None or capability >= (8, 0):
        return None
    return Notice(
        "flash_attention_unsupported",
        f"This run fails in its first forward pass on {plan.gpu.name}: FlashAttention 2 has kernels from compute "
        f"capability 8.0 on, and this card has {capability[0]}.{capability[1]}. Set attn_implementation to sdpa.",
    )


def float32_compute(plan: Planned, replan: Replan) -> Notice | None:
    """BitsAndBytesConfig's default compute dtype."""
    quantization = four_bit_of(plan)
    if quantization is None or quantization.bnb_4bit_compute_dtype != "float32":
        return None
    half = "bfloat16" if plan.gpu.native_bfloat16 else "float16"
    cost = cost_bytes(plan, replan, {"quantization": {"bnb_4bit_compute_dtype": half}})
    message = (
        "bnb_4bit_compute_dtype is float32, BitsAndBytesConfig's default: activations of every quantized layer and the "
        f"expanded weight take twice the room, and the product is slow. Set {half}."
    )
    return Notice("float32_compute", message, cost)


def adapters_mismatch(plan: Planned, _: Replan) -> Notice | None:
    """Adapters in another dtype than the layer they sit on, with no autocast between them."""
    recipe = plan.recipe
    if recipe.lora is None or recipe.autocast or recipe.adapter_dtype == recipe.compute_dtype:
        return None
    message = (
        f"Adapters are {recipe.adapter_dtype} and the base computes in {recipe.compute_dtype}, without autocast: every "
        "adapted layer keeps its own copy of its input. Use autocast, or make the two equal."
    )
    return Notice("adapter_dtype_mismatch", message)


def fp4_not_nf4(plan: Planned, _: Replan) -> Notice | None:
    """BitsAndBytesConfig's default quantization type."""
    quantization = four_bit_of(plan)
    if quantization is None or quantization.bnb_4bit_quant_type == "nf4":
        return None
    return Notice(
        "fp4_not_nf4",
        "fp4, BitsAndBytesConfig's default, takes the same memory as nf4 and fits normally distributed weights less "
        'well. Set bnb_4bit_quant_type to "nf4".',
    )


def int4_not_nf4(plan: Planned, _: Replan) -> Notice | None:
    """Uniform int4, and how it has to be loaded."""
    quantization = plan.recipe.quantization
    if quantization is None or quantization.quant_method != "hqq":
        return None
    return Notice(
        "int4_not_nf4",
        "Group-wise int4 (HQQ) spaces its 16 values evenly; nf4 follows the weights' distribution and takes less room "
        "with double quantization. transformers 5.23 cannot load it either: quantize with hqq's AutoHQQHFModel.",
    )


def packed_checkpoint(plan: Planned, _: Replan) -> Notice | None:
    """Which of gptqmodel's kernels is planned."""
    quantization = plan.recipe.quantization
    if quantization is None or quantization.quant_method not in {"awq", "gptq"}:
        return None
    return Notice(
        "packed_checkpoint",
        "Planned with gptqmodel's torch kernel, which trains on every card and keeps each expanded weight until its "
        'backward. Its Marlin, Machete and ExLlama kernels do not train; pass backend="torch" to from_pretrained\'s '
        "GPTQConfig or AwqConfig.",
    )


def no_double_quantization(plan: Planned, replan: Replan) -> Notice | None:
    """Single quantization, BitsAndBytesConfig's default."""
    quantization = four_bit_of(plan)
    if quantization is None or quantization.bnb_4bit_use_double_quant:
        return None
    cost = cost_bytes(plan, replan, {"quantization": {"bnb_4bit_use_double_quant": True}})
    message = f"Double quantization is off; it would save {format_gib(cost)} at no cost in quality."
    return Notice("no_double_quantization", message, cost)
