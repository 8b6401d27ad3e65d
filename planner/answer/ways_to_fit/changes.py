"""Single changes of a recipe that may save memory: what each sets, what it costs, and how much of a cut it is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from planner.answer.planned import Planned
from planner.request.optimizer_names import KEPT
from planner.request.schema import CHAPTER_QUANTIZATION, Quantization
from planner.request.unsloth import REPLACED, UNSLOTH
from planner.step import liger_models
from planner.tensors.modules import ALL_LINEAR, module_name

Change = Mapping[str, Any]

# What a change costs, from nothing to something that changes the trained model. Ranks, not measures.
FREE, SLOWER, DIFFERENT = range(3)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A change by dotted path into the request, its cost in words, and its rank."""

    change: Change
    cost: str
    rank: int


def candidates(plan: Planned) -> Iterator[Candidate]:
    """Single changes that may save memory, whether or not they are enough."""
    yield from _without_a_strategy(plan)
    yield from _training_changes(plan)
    yield from _model_changes(plan)
    yield from _adapter_changes(plan)
    yield from _with_unsloth(plan)


def _without_a_strategy(plan: Planned) -> Iterator[Candidate]:
    """One card that shards with nobody and keeps nothing on the host has the strategy's copies and buckets alone."""
    layout = plan.recipe.layout
    if layout.world == 1 and not (layout.parameters_on_host or layout.optimizer_on_host):
        if plan.request.deepspeed:
            yield Candidate({"deepspeed": None}, "none; one card has nobody to share with", FREE)
        if plan.request.fsdp:
            yield Candidate({"fsdp": None}, "none; one card has nobody to share with", FREE)


def _with_unsloth(plan: Planned) -> Iterator[Candidate]:
    """Unsloth's own layers, of the families that it has them for; what else it cannot be asked is refused."""
    request, lora = plan.request, plan.recipe.lora
    if request.stack not in {"trainer", "trl"} or lora is None or plan.gpu.vendor != "NVIDIA":
        return
    if request.training.packing:
        return
    if plan.model.known_decoder().model_type in REPLACED:
        training = request.training
        wanted: dict[str, Any] = {"stack": UNSLOTH}
        if training.gradient_checkpointing:
            wanted["training.gradient_checkpointing"] = UNSLOTH
        wanted |= {f"training.{name}": None for name in ("loss", "attn_implementation") if getattr(training, name)}
        yield Candidate(wanted, "none; needs unsloth, layers' inputs wait on the host", FREE)


def _training_changes(plan: Planned) -> Iterator[Candidate]:
    training, loss, supervised = plan.recipe.training, plan.recipe.loss, plan.recipe.objective == "sft"
    if not training.gradient_checkpointing:
        cost = "one more forward pass per step"
        yield Candidate({"training.gradient_checkpointing": True}, cost, SLOWER)
    if supervised and loss != "liger" and plan.model.known_decoder().model_type in liger_models.REPLACED:
        yield Candidate({"training.loss": "liger"}, "none; needs liger-kernel", FREE)
    if supervised and loss == "full_logits" and plan.recipe.stack_name == "trl":
        yield Candidate({"training.loss": "chunked"}, "none; TRL's own default", FREE)
    if plan.recipe.scores_by_reference:
        cost = "none in the steps; one pass over the data before the first"
        yield Candidate({"training.precompute_ref_log_probs": True, "training.ref_model": None}, cost, FREE)
    if KEPT[training.optim].storage != "bnb_8bit" and training.optim != "sgd":
        cost = "optimizer state in 8 bit, large states paged to host memory"
        yield Candidate({"training.optim": "paged_adamw_8bit"}, cost, SLOWER)
    elif training.optim in ("adamw_8bit", "adamw_bnb_8bit"):
        cost = "large optimizer states paged to host memory when room is short"
        yield Candidate({"training.optim": "paged_adamw_8bit"}, cost, SLOWER)
    if training.attn_implementation == "eager":
        yield Candidate({"training.attn_implementation": "sdpa"}, "none; same result, faster", FREE)
    evaluated = training.per_device_eval_batch_size or 0
    if plan.recipe.evaluates and evaluated > training.per_device_train_batch_size:
        smaller = {"training.per_device_eval_batch_size": training.per_device_train_batch_size}
        yield Candidate(smaller, "none; evaluation takes longer", FREE)
    if training.packing and _takes_flash(plan):
        cost = "none; needs flash-attn, which is told where documents begin"
        yield Candidate({"training.attn_implementation": "flash_attention_2"}, cost, FREE)
    if not training.expandable_segments:
        cost = "none; set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
        yield Candidate({"training.expandable_segments": True}, cost, FREE)
    if training.padded:
        yield Candidate({"training.padded": False}, "pack examples, or batch equal lengths", SLOWER)


def _takes_flash(plan: Planned) -> bool:
    """Whether FlashAttention 2 could run in place of what is asked for: from compute capability 8.0 on."""
    other = plan.recipe.training.attn_implementation != "flash_attention_2"
    return other and plan.gpu.vendor == "NVIDIA" and (plan.gpu.compute_capability or (8, 0)) >= (8, 0)


def _model_changes(plan: Planned) -> Iterator[Candidate]:
    recipe = plan.recipe
    quantization = recipe.quantization
    if plan.request.stack == "kbit":
        yield Candidate({"stack": "trainer"}, "none; Trainer does not need kbit preparation", FREE)
    if quantization is not None and quantization.load_in_4bit:
        if not quantization.bnb_4bit_use_double_quant:
            cost = "none that the QLoRA paper could measure"
            yield Candidate({"quantization.bnb_4bit_use_double_quant": True}, cost, FREE)
        if quantization.bnb_4bit_compute_dtype == "float32":
            half = "bfloat16" if plan.gpu.native_bfloat16 else "float16"
            yield Candidate({"quantization.bnb_4bit_compute_dtype": half}, "none; faster", FREE)
    elif quantization is not None:
        yield Candidate(_as_chapter(quantization), "4 bits per weight instead of more", DIFFERENT)
    elif recipe.method == "lora":
        yield Candidate({"method": "qlora"}, "4-bit base: slower steps, slightly different gradients", DIFFERENT)
    else:
        yield Candidate({"method": "lora"}, "trains adapters, not the whole model", DIFFERENT)
        yield Candidate({"method": "qlora"}, "trains adapters on a 4-bit base", DIFFERENT)


def _as_chapter(quantization: Quantization) -> Change:
    wanted = CHAPTER_QUANTIZATION.model_dump()
    return {
        f"quantization.{field}": wanted[field]
        for field, value in quantization.model_dump().items()
        if field != "llm_int8_skip_modules" and wanted[field] != value
    }


def _adapter_changes(plan: Planned) -> Iterator[Candidate]:
    lora = plan.recipe.lora
    if lora is None:
        return
    if lora.use_dora:
        yield Candidate({"lora.use_dora": False}, "plain LoRA instead of DoRA", DIFFERENT)
    if lora.lora_dropout:
        yield Candidate({"lora.lora_dropout": 0.0}, "no dropout on the adapters", DIFFERENT)
    if lora.r > 8 and lora.peft_type in {"LORA", "VERA"}:
        yield Candidate({"lora.r": max(8, lora.r // 4)}, "fewer trainable parameters", DIFFERENT)
    attention = _attention_projections(plan)
    targets = lora.target_modules
    if attention and (targets == ALL_LINEAR or (isinstance(targets, tuple) and set(attention) < set(targets))):
        cost = "adapters on attention only; the QLoRA paper needed all layers to match full fine-tuning"
        yield Candidate({"lora.target_modules": attention}, cost, DIFFERENT)


def _attention_projections(plan: Planned) -> tuple[str, ...]:
    paths = [module_name(group).split(".") for group in plan.model.census if group.quantizable]
    return tuple(
        dict.fromkeys(path[-1] for path in paths if any("attn" in part or "attention" in part for part in path))
    )
