"""What the stack does that people do not expect: experts, preparation, losses, padding, targets."""


from planner.answer.planned import Planned
from planner.answer.warnings.notice import Notice, Replan, cost_bytes
from planner.families.parts import Mixer
from planner.memory.optimizer import SMALLEST_PAGED_ELEMENTS
from planner.request.recipe import stack_switches
from planner.tensors.modules import last_layer
from planner.tensors.storage_formats import four_bit
from planner.tensors.targets import adapted_weights
from planner.tensors.tensor_storage import Placed, place
from planner.tensors.whole_modules import unmatched_names
from planner.tensors.without_effect import (
    unmatched_exclusions,
    unmatched_layers,
    unmatched_patterns,
    unmatched_targets,
)
from planner.units import format_gib


def experts_in_16_bit(plan: Planned, _: Replan) -> Notice | None:
    """A "4-bit" mixture whose experts bitsandbytes passes over."""
    if plan.recipe.quantization is None or not _has_experts(plan):
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


def adapters_on_experts(plan: Planned, _: Replan) -> Notice | None:
    """PEFT 0.21 translates old projection names to the stacked experts."""
    lora = plan.recipe.lora
    if lora is None or not _has_experts(plan):
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


def float32_embeddings(plan: Planned, _: Replan) -> Notice | None:
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


def old_chunked_loss(plan: Planned, _: Replan) -> Notice | None:
    """What TRL's chunked loss took before it became a fused output head."""
    if plan.recipe.stack_name != "trl" or plan.recipe.loss != "chunked" or plan.recipe.objective != "sft":
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


def padded_batch(plan: Planned, replan: Replan) -> Notice | None:
    """Padding puts a mask on the batch, and with it another attention kernel."""
    if not plan.recipe.training.padded:
        return None
    cost = cost_bytes(plan, replan, {"training": {"padded": False}})
    message = (
        "Padded batches carry a mask: attention leaves the flash kernel, grouped keys and values are expanded, and "
        f"lengths that vary fragment memory. {format_gib(max(cost, 0))} of the peak; packing avoids it."
    )
    return Notice("padded_batch", message, max(cost, 0))


def evaluation_is_the_peak(plan: Planned, replan: Replan) -> Notice | None:
    """A run that trains and dies in evaluation, or one whose evaluation was not planned."""
    batch = plan.recipe.training.per_device_eval_batch_size
    if batch is None:
        return None
    if not plan.recipe.evaluates:
        message = "Evaluation is planned of SFT by transformers' layers, on one card or under DDP. Here it is left out."
        return Notice("evaluation_left_out", message)
    cost = cost_bytes(plan, replan, {"training": {"per_device_eval_batch_size": None}})
    if cost <= 0:
        return None
    message = (
        f"The peak is not in training but in evaluation, {batch} sequences at a time: {format_gib(cost)} more than a "
        "step takes. Lower per_device_eval_batch_size. A compute_metrics keeps the logits of the whole set as well: "
        "see eval_accumulation_steps, and preprocess_logits_for_metrics."
    )
    return Notice("evaluation_is_the_peak", message, cost)


def packed_without_flash(plan: Planned, replan: Replan) -> Notice | None:
    """Packing with a kernel that is not told where documents begin."""
    if not plan.recipe.training.packing or plan.recipe.training.attn_implementation == "flash_attention_2":
        return None
    cost = max(cost_bytes(plan, replan, {"training": {"attn_implementation": "flash_attention_2"}}), 0)
    message = (
        "Packed documents are kept apart by a mask of the whole row, and attention leaves the flash kernel. "
        f"attn_implementation flash_attention_2 is told where documents begin and has no mask: {format_gib(cost)} less."
    )
    return Notice("packed_without_flash", message, cost)


def packed_states(plan: Planned, _: Replan) -> Notice | None:
    """Packing of layers that hand a state from token to token."""
    blocks = plan.model.decoder.structure.blocks if plan.model.decoder else ()
    scans = any(isinstance(block.attention, Mixer) and block.attention.scans for block in blocks)
    if not plan.recipe.training.packing or not scans:
        return None
    message = (
        "transformers packs this model's linear-attention or Mamba layers only where causal_conv1d or mamba_ssm is "
        "installed, and stops at the first step without. Planned as their plain torch code runs one row."
    )
    return Notice("packed_states", message)


def eager_by_default(plan: Planned, replan: Replan) -> Notice | None:
    """A model class that asks for eager attention."""
    decoder = plan.model.decoder
    if decoder is None or decoder.default_attention != "eager" or plan.recipe.training.attn_implementation:
        return None
    if any(group.name.endswith(".sinks") for group in plan.model.census):  # kernels.sinks_written_out says so
        return None
    cost = cost_bytes(plan, replan, {"training": {"attn_implementation": "sdpa"}})
    message = (
        "This model's class defaults to eager attention, which keeps whole length × length score matrices: "
        f"{format_gib(max(cost, 0))} of the peak. Set attn_implementation if your version allows it."
    )
    return Notice("eager_attention", message, max(cost, 0))


def float32_from_a_string(plan: Planned, replan: Replan) -> Notice | None:
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


def targets_without_effect(plan: Planned, _: Replan) -> Notice | None:
    """What the adapter's configuration names and the model has not."""
    lora = plan.recipe.lora
    if lora is None:
        return None
    census, kind = plan.model.census, plan.model.model_type
    found = {
        "target_modules": unmatched_targets(census, kind, lora),
        "modules_to_save": unmatched_names(census, lora),
        "layers_to_transform": unmatched_layers(census, kind, lora),
        "rank_pattern": unmatched_patterns(census, kind, lora),
        "exclude_modules": unmatched_exclusions(census, lora),
    }
    said = "; ".join(f"{', '.join(map(str, names))} of {field}" for field, names in found.items() if names)
    if not said:
        return None
    layers = f" Layers are counted from 0 to {last_layer(census)}." if found["layers_to_transform"] else ""
    return Notice("targets_unmatched", f"PEFT ignores what matches no module that gets an adapter: {said}.{layers}")


def nothing_is_paged(plan: Planned, _: Replan) -> Notice | None:
    """A paged optimizer at a rank too small for paging."""
    if not plan.recipe.training.optim.startswith("paged") or plan.paged_bytes:
        return None
    return Notice(
        "nothing_paged",
        f"The optimizer is paged, but only tensors of {SMALLEST_PAGED_ELEMENTS:,} elements or more are, and no trained "
        "tensor here is that large. It takes the same room as without paging.",
    )


def _has_experts(plan: Planned) -> bool:
    return any(group.role == "expert" for group in plan.model.census)


def _placed(plan: Planned) -> list[Placed]:
    return place(plan.model.census, plan.recipe)
