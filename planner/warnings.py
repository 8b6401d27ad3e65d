"""What surprises people about a plan, in words, with the bytes it costs where a number exists.

Each check takes the plan and returns its notice, or None where it does not apply.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.memory.optimizer import SMALLEST_PAGED_ELEMENTS
from planner.memory.weights import Placed, place
from planner.recipe import stack_switches
from planner.request import Quantization, Request
from planner.storage import four_bit
from planner.targets import adapted_weights, unmatched_targets
from planner.units import format_gib

if TYPE_CHECKING:
    from planner.plan import Plan

Replan = Callable[[Request], "Plan"]


@dataclass(frozen=True, slots=True)
class Notice:
    """One warning. `bytes` is what it costs in this plan, None where it costs no memory."""

    code: str
    message: str
    bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the API writes it."""
        document: dict[str, Any] = {"code": self.code, "message": self.message}
        return document if self.bytes is None else document | {"bytes": self.bytes}


def notices(plan: "Plan", replan: Replan) -> tuple[Notice, ...]:
    """All warnings that apply, the gravest first."""
    found = (check(plan, replan) for check in _CHECKS)
    return tuple(notice for notice in found if notice is not None)


def base_too_large(plan: "Plan", _: Replan) -> Notice | None:
    """The weights alone, before a single token."""
    base_bytes = sum(
        line.bytes for line in plan.lines if line.cause == "weights" and {"load", "backward"} <= set(line.alive_in)
    )
    if base_bytes <= plan.usable_bytes:
        return None
    kind = "quantized base model" if plan.recipe.quantization else "base model"
    message = f"The {kind} alone is {format_gib(base_bytes)}; this card gives torch {format_gib(plan.usable_bytes)}."
    return Notice("base_too_large", message, base_bytes)


def bitsandbytes_unsupported(plan: "Plan", _: Replan) -> Notice | None:
    """bitsandbytes does not list the platform."""
    quantization = plan.recipe.quantization
    if plan.gpu.bitsandbytes_4bit or quantization is None or quantization.quant_method != "bitsandbytes":
        return None
    message = f"bitsandbytes does not list {plan.gpu.name} for 4-bit training; check that it runs there at all."
    return Notice("bitsandbytes_unsupported", message)


def bf16_unsupported(plan: "Plan", _: Replan) -> Notice | None:
    """bfloat16 on a card that emulates it."""
    recipe = plan.recipe
    if plan.gpu.native_bfloat16 or "bfloat16" not in (recipe.compute_dtype, recipe.autocast, recipe.model_dtype):
        return None
    message = (
        f"{plan.gpu.name} has no bfloat16 units (compute capability below 8.0): it runs, slowly. "
        "Use float16 for bnb_4bit_compute_dtype and autocast."
    )
    return Notice("bf16_unsupported", message)


def float32_compute(plan: "Plan", replan: Replan) -> Notice | None:
    """BitsAndBytesConfig's default compute dtype."""
    quantization = _four_bit(plan)
    if quantization is None or quantization.bnb_4bit_compute_dtype != "float32":
        return None
    half = "bfloat16" if plan.gpu.native_bfloat16 else "float16"
    cost_bytes = _cost(plan, replan, {"quantization": {"bnb_4bit_compute_dtype": half}})
    message = (
        "bnb_4bit_compute_dtype is float32, BitsAndBytesConfig's default: activations of every quantized layer and the "
        f"expanded weight take twice the room, and the product is slow. Set {half}."
    )
    return Notice("float32_compute", message, cost_bytes)


def adapters_mismatch(plan: "Plan", _: Replan) -> Notice | None:
    """Adapters in another dtype than the layer they sit on, with no autocast between them."""
    recipe = plan.recipe
    if recipe.lora is None or recipe.autocast or recipe.adapter_dtype == recipe.compute_dtype:
        return None
    message = (
        f"Adapters are {recipe.adapter_dtype} and the base computes in {recipe.compute_dtype}, without autocast: every "
        "adapted layer keeps its own copy of its input. Use autocast, or make the two equal."
    )
    return Notice("adapter_dtype_mismatch", message)


def fp4_not_nf4(plan: "Plan", _: Replan) -> Notice | None:
    """BitsAndBytesConfig's default quantization type."""
    quantization = _four_bit(plan)
    if quantization is None or quantization.bnb_4bit_quant_type == "nf4":
        return None
    return Notice(
        "fp4_not_nf4",
        "fp4, BitsAndBytesConfig's default, takes the same memory as nf4 and fits normally distributed weights less "
        'well. Set bnb_4bit_quant_type to "nf4".',
    )


def int4_not_nf4(plan: "Plan", _: Replan) -> Notice | None:
    """Uniform int4, and how it has to be loaded."""
    quantization = plan.recipe.quantization
    if quantization is None or quantization.quant_method != "hqq":
        return None
    return Notice(
        "int4_not_nf4",
        "Group-wise int4 (HQQ) spaces its 16 values evenly; nf4 follows the weights' distribution and takes less room "
        "with double quantization. transformers 5.23 cannot load it either: quantize with hqq's AutoHQQHFModel.",
    )


def no_double_quantization(plan: "Plan", replan: Replan) -> Notice | None:
    """Single quantization, BitsAndBytesConfig's default."""
    quantization = _four_bit(plan)
    if quantization is None or quantization.bnb_4bit_use_double_quant:
        return None
    cost_bytes = _cost(plan, replan, {"quantization": {"bnb_4bit_use_double_quant": True}})
    message = f"Double quantization is off; it would save {format_gib(cost_bytes)} at no cost in quality."
    return Notice("no_double_quantization", message, cost_bytes)


def experts_in_16_bit(plan: "Plan", _: Replan) -> Notice | None:
    """A "4-bit" mixture whose experts bitsandbytes passes over."""
    if plan.recipe.quantization is None:
        return None
    experts = [placed for placed in _placed(plan) if placed.group.role == "expert" and not placed.quantized]
    held_bytes = sum(placed.prepared.total_bytes * placed.count for placed in experts)
    if not held_bytes:
        return None
    share = sum(p.group.params_each * p.count for p in experts) / plan.model.params
    as_4bit_bytes = sum(
        four_bit(p.group.params_each, double_quantization=True, load_itemsize_bytes=2).total_bytes * p.count
        for p in experts
    )
    message = (
        f"{share:.0%} of this model's parameters are experts that transformers 5 holds as stacked tensors. The "
        f"quantizer passes over them: {format_gib(held_bytes)} unquantized instead of {format_gib(as_4bit_bytes)}."
    )
    return Notice("experts_unquantized", message, held_bytes - as_4bit_bytes)


def adapters_on_experts(plan: "Plan", _: Replan) -> Notice | None:
    """PEFT 0.21 translates old projection names to the stacked experts."""
    lora = plan.recipe.lora
    if lora is None:
        return None
    weights = adapted_weights(plan.model.census, plan.model.model_type, lora)
    if not any(weight.stacked_experts for weight in weights):
        return None
    adapters_bytes = sum(line.bytes for line in plan.lines if line.cause == "adapters")
    message = (
        f"These targets put an adapter on every expert (rank {lora.r} times the number of experts): adapters alone are "
        f"{format_gib(adapters_bytes)}. Name only attention projections to leave the experts alone."
    )
    return Notice("adapters_on_experts", message, adapters_bytes)


def float32_embeddings(plan: "Plan", _: Replan) -> Notice | None:
    """kbit preparation's upcast outweighing what quantization left."""
    if not plan.recipe.kbit_preparation:
        return None
    placed = _placed(plan)
    quantized_bytes = sum(p.prepared.total_bytes * p.count for p in placed if p.quantized)
    ends = [p for p in placed if p.upcast and p.group.role in ("embedding", "head")]
    ends_bytes = sum(p.prepared.total_bytes * p.count for p in ends)
    extra_bytes = ends_bytes - sum(p.loaded.total_bytes * p.count for p in ends)
    if ends_bytes <= quantized_bytes:
        return None
    message = (
        f"prepare_model_for_kbit_training turns embeddings and output head into float32: {format_gib(ends_bytes)}, "
        f"more than the whole quantized base ({format_gib(quantized_bytes)}). Trainer and TRL do not need it."
    )
    return Notice("float32_embeddings", message, extra_bytes)


def old_chunked_loss(plan: "Plan", _: Replan) -> Notice | None:
    """What TRL's chunked loss took before it became a fused output head."""
    if plan.recipe.stack_name != "trl" or plan.recipe.loss != "chunked":
        return None
    ends = [group for group in plan.model.census if group.role in ("head", "embedding") and len(group.shape) == 2]
    head = next((group for group in ends if group.role == "head"), ends[0] if ends else None)
    if head is None:
        return None
    copies_bytes = 6 * head.params_each
    message = (
        "This plan describes TRL 1.16, whose loss works through the output head in tiles. TRL 1.10's chunked_nll held "
        f"a float32 and a bfloat16 copy of it, 6 V h = {format_gib(copies_bytes)} at any length."
    )
    return Notice("trl_chunked_loss", message, copies_bytes)


def padded_batch(plan: "Plan", replan: Replan) -> Notice | None:
    """Padding puts a mask on the batch, and with it another attention kernel."""
    if not plan.recipe.training.padded:
        return None
    cost_bytes = _cost(plan, replan, {"training": {"padded": False}})
    message = (
        "Padded batches carry a mask: attention leaves the flash kernel, grouped keys and values are expanded, and "
        f"lengths that vary fragment memory. {format_gib(max(cost_bytes, 0))} of the peak; packing avoids it."
    )
    return Notice("padded_batch", message, max(cost_bytes, 0))


def eager_by_default(plan: "Plan", replan: Replan) -> Notice | None:
    """A model class that asks for eager attention."""
    decoder = plan.model.decoder
    if decoder is None or decoder.default_attention != "eager" or plan.recipe.training.attn_implementation:
        return None
    cost_bytes = _cost(plan, replan, {"training": {"attn_implementation": "sdpa"}})
    message = (
        "This model's class defaults to eager attention, which keeps whole length × length score matrices: "
        f"{format_gib(max(cost_bytes, 0))} of the peak. Set attn_implementation if your version allows it."
    )
    return Notice("eager_attention", message, max(cost_bytes, 0))


def float32_from_a_string(plan: "Plan", replan: Replan) -> Notice | None:
    """SFTTrainer(model="name") loads float32."""
    recipe = plan.recipe
    if recipe.stack_name != "trl" or recipe.model_dtype == "float32":
        return None
    stack = stack_switches(plan.request).model_copy(update={"model_dtype": "float32"})
    training = plan.request.training.model_copy(update={"loss": recipe.loss})
    in_float32 = replan(plan.request.model_copy(update={"stack": stack, "training": training}))
    cost_bytes = in_float32.peak_allocated_bytes - plan.peak_allocated_bytes
    message = (
        "SFTTrainer given the model as a string loads it in float32 unless model_init_kwargs names a dtype "
        f"(trl/trainer/utils.py): {format_gib(cost_bytes)} more than this plan."
    )
    return Notice("trl_string_float32", message, cost_bytes)


def targets_without_effect(plan: "Plan", _: Replan) -> Notice | None:
    """Names in target_modules that match nothing."""
    lora = plan.recipe.lora
    if lora is None:
        return None
    names = unmatched_targets(plan.model.census, plan.model.model_type, lora)
    if not names:
        return None
    return Notice("targets_unmatched", f"These targets match no module and PEFT ignores them: {', '.join(names)}.")


def nothing_is_paged(plan: "Plan", _: Replan) -> Notice | None:
    """A paged optimizer at a rank too small for paging."""
    if not plan.recipe.training.optim.startswith("paged") or plan.paged_bytes:
        return None
    return Notice(
        "nothing_paged",
        f"The optimizer is paged, but only tensors of {SMALLEST_PAGED_ELEMENTS:,} elements or more are, and no trained "
        "tensor here is that large. It takes the same room as without paging.",
    )


_CHECKS = (
    base_too_large,
    bitsandbytes_unsupported,
    bf16_unsupported,
    experts_in_16_bit,
    adapters_on_experts,
    float32_embeddings,
    float32_compute,
    adapters_mismatch,
    no_double_quantization,
    padded_batch,
    eager_by_default,
    fp4_not_nf4,
    int4_not_nf4,
    float32_from_a_string,
    old_chunked_loss,
    targets_without_effect,
    nothing_is_paged,
)


def _four_bit(plan: "Plan") -> Quantization | None:
    quantization = plan.recipe.quantization
    return quantization if quantization and quantization.load_in_4bit else None


def _placed(plan: "Plan") -> list[Placed]:
    return place(plan.model.census, plan.recipe)


def _cost(plan: "Plan", replan: Replan, change: Mapping[str, Mapping[str, Any]]) -> int:
    """Allocated peak of this plan less that of the same request with `change` made."""
    sections = {
        section: (getattr(plan.request, section) or getattr(plan.recipe, section)).model_copy(update=dict(values))
        for section, values in change.items()
    }
    return plan.peak_allocated_bytes - replan(plan.request.model_copy(update=sections)).peak_allocated_bytes
