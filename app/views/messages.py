"""What the pages say. Sentences for people; no arithmetic beyond choosing among them."""

from collections.abc import Mapping
from typing import Any

from app.forms.stack_words import CHOICES
from app.templating import gib, size
from planner.measurement import Measurement
from planner.units import GIB

CAUSE_NAMES = {
    "weights": "Weights",
    "adapters": "Adapters",
    "optimizer": "Optimizer state",
    "gradients": "Gradients",
    "activations": "Activations",
    "logits": "Logits and loss",
    "workspace": "Workspace",
    "runtime": "Runtime",
}
MOMENTS = {
    "load": "while the weights load",
    "prepare": "while the model is prepared",
    "forward": "in the forward pass",
    "loss": "in the loss",
    "backward": "in the backward pass",
    "optimizer": "in the optimizer’s step",
}
LABELS = {
    "model": "Model",
    "config": "config.json",
    "gpu": "Card",
    "gpus": "Cards",
    "fsdp": "FSDP",
    "deepspeed": "DeepSpeed",
    "cp_size": "Sequence parts, in a ring",
    "sp_size": "Sequence parts, Ulysses",
    "gpu_memory": "Memory torch sees",
    "compute_capability": "Compute capability",
    "method": "Method",
    "quantization": "Base weights",
    "bnb_4bit_use_double_quant": "Double quantization",
    "bnb_4bit_compute_dtype": "Compute dtype",
    "llm_int8_skip_modules": "Skip modules",
    "peft_type": "PEFT’s method",
    "oft_block_size": "OFT’s block size",
    "feedforward_modules": "Scaled inputs",
    "lora_r": "LoRA rank",
    "lora_dropout": "LoRA dropout",
    "target_modules": "Target modules",
    "use_dora": "DoRA",
    "modules_to_save": "Trained whole",
    "per_device_train_batch_size": "Micro-batch",
    "gradient_accumulation_steps": "Gradient accumulation",
    "max_length": "Length",
    "tokens": "Tokens to train on",
    "price_per_hour": "Price per hour",
    "gradient_checkpointing": "Checkpointing",
    "optim": "Optimizer",
    "optim_target_modules": "GaLore’s layers",
    "optim_args": "GaLore’s arguments",
    "attn_implementation": "Attention",
    "loss": "Loss",
    "liger_kernel_config": "Liger’s kernels",
    "objective": "Objective",
    "precompute_ref_log_probs": "Reference scores",
    "ref_model": "Reference model",
    "max_completion_length": "Completion",
    "vllm_gpu_memory_utilization": "vLLM’s share",
    "per_device_eval_batch_size": "Evaluation batch",
    "packing": "Packing",
    "activation_offloading": "Activation offloading",
    "qat": "Quantization-aware training",
    "neftune_noise_alpha": "NEFTune noise",
    "padded": "Padded batches",
    "expandable_segments": "Expandable segments",
    "stack": "Training stack",
    "bnb_4bit_quant_storage": "Quantized storage",
}
_SAME_FRACTION = 0.0001
_TOO_LITTLE_TO_SHOW_BYTES = GIB // 20  # "0.0 GiB"
METHOD_NAMES = {"qlora": "QLoRA", "lora": "LoRA", "full": "Full fine-tuning"}


def verdict_sentence(verdict: str, headroom_bytes: int, worst_headroom_bytes: int) -> str:
    """The answer in one sentence. `worst_headroom_bytes` is what is left if the high estimate is true."""
    if verdict != "does_not_fit" and fills_the_card(headroom_bytes):
        return "Fits, by filling the card." if verdict == "fits" else "Tight, likely fits: it fills the card."
    if verdict == "fits":
        return f"Fits, with {gib(headroom_bytes, 1)} to spare."
    if verdict == "does_not_fit":
        return f"Does not fit: {gib(-headroom_bytes, 1)} too much."
    if headroom_bytes < 0:
        return f"Tight, likely not: {gib(-headroom_bytes)} short."
    if worst_headroom_bytes < 0:
        return f"Tight, likely fits: {gib(headroom_bytes)} to spare, or {gib(-worst_headroom_bytes)} short at worst."
    return f"Tight, likely fits: {gib(headroom_bytes)} to spare."


def remainder_sentence(verdict: str, planned_verdict: str, headroom_bytes: int, planned: str) -> str:
    """The answer where something was not planned; `planned` says what was: "as plain SFT, without modules_to_save"."""
    if verdict == "does_not_fit":
        return f"Does not fit, even {planned}: {gib(-headroom_bytes, 1)} too much."
    if planned_verdict == "fits":
        return f"Fits only as planned here: {planned}."
    if planned_verdict == "does_not_fit":
        return f"Not decided: it does not fit {planned}, which needs more."
    return f"Tight {planned}."


def fills_the_card(headroom_bytes: int) -> bool:
    """Whether nothing that would show is left: torch keeps what it frees, up to all that the card has."""
    return 0 <= headroom_bytes < _TOO_LITTLE_TO_SHOW_BYTES


def reading_sentence(reading: Measurement, predicted_bytes: int) -> str:
    """What an instrument read for exactly this plan, beside what the formulas say."""
    who = {"cuda": "A real run on the GPU", "cpu": "A real run on the processor", "dry-run": "A dry run"}
    name = who[reading.instrument]
    if reading.outcome == "out_of_memory":
        phase = str(reading.failed_phase).removeprefix("first_")
        return f"{name} ran out of memory {MOMENTS.get(phase, f'in {phase}')}. Believe it, not the formulas."
    peak = gib(reading.peak_allocated_bytes)
    apart = distance_in_words(predicted_bytes / reading.peak_allocated_bytes - 1)
    return f"{name} of exactly this plan peaked at {peak}; the formulas {apart}."


def out_of_memory_in_words(measurement: Measurement, predicted_bytes: int | None) -> list[str]:
    """What was asked, what was short, in which phase, and what the formulas had foreseen there."""
    phase = str(measurement.failed_phase)
    where = MOMENTS.get(phase.removeprefix("first_"), f"in {phase}")
    step = " of the first step" if phase.startswith("first_") else ""
    asked = f"one more block of {size(measurement.requested_bytes)}" if measurement.requested_bytes else "more"
    words = [f"It ran out {where}{step}: torch asked for {asked}"]
    if measurement.short_bytes and measurement.requested_bytes:
        room = max(measurement.requested_bytes - measurement.short_bytes, 0)
        words[0] += f" with room for {size(room)}: {size(measurement.short_bytes)} short"
    elif measurement.short_bytes:
        words[0] += f", {size(measurement.short_bytes)} beyond the limit"
    words[0] += f". {gib(measurement.peak_allocated_bytes)} had been allocated at most."
    if predicted_bytes is not None:
        words.append(f"The formulas had foreseen {gib(predicted_bytes)} there.")
    words.append("The answer to “does it fit” is no, and the probe did its work; what came after was not measured.")
    return words


def distance_in_words(error_fraction: float) -> str:
    """How far the formulas are from a reading, as the end of a sentence about them."""
    if abs(error_fraction) < _SAME_FRACTION:
        return "agree to a hundredth of a per cent"
    side = "above" if error_fraction > 0 else "below"
    return f"are {abs(error_fraction) * 100:.2f} % {side} it"


def change_in_words(change: Mapping[str, Any], values: Mapping[str, str], changed_values: Mapping[str, str]) -> str:
    """`Micro-batch 4 → 1, Expandable segments on`, from the form's texts before and after."""
    words = CHOICES if "stack" in change else {}
    moved = [
        _moved(LABELS.get(name, name), words.get(values[name], values[name]), words.get(after, after))
        for name, after in changed_values.items()
        if values[name] != after
    ]
    return ", ".join(moved) or ", ".join(f"{path} = {value}" for path, value in change.items())


def _moved(label: str, before: str, after: str) -> str:
    if not before or after in ("on", "off"):
        return f"{label} {after}"
    return f"{label} {before} → {after or 'default'}"


# The core's advice on a name is written for JSON and the terminal; the page has links and controls for the same.
_ON_THE_PAGE = {
    "model": ("name its folder", "Not in the catalogue. Give a hub id, or paste its config.json."),
    "gpu": ("total_memory_bytes", "Not in the catalogue. Or describe it by its memory, under all settings."),
}


def for_the_form(name: str, message: str) -> str:
    """A message of the core in the form's own words."""
    mark, words = _ON_THE_PAGE.get(name, (None, ""))
    return words if mark and mark in message else message


def short_gpu_name(name: str) -> str:
    """`RTX 4090` for `NVIDIA GeForce RTX 4090`, as people say it."""
    return name.removeprefix("NVIDIA ").removeprefix("GeForce ")
