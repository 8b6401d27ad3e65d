"""`python -m planner.evidence.publications.convert_published ROWS.jsonl > published.jsonl`: as Requests.

The input has one row per published measurement, with its setting in words. A row is kept when every word that moves
bytes has a field in the Request, and counted under the first reason that stops it when not (on stderr).
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from planner.errors import UnknownModelError
from planner.model.model import resolve_model
from planner.request.schema import Request
from planner.units import MIB

Row = Mapping[str, Any]

_METRICS = {
    "torch.cuda.max_memory_allocated()": "peak_allocated",
    "torch peak allocated (HF Trainer memory tracker: peak bytes over init+train stages)": "peak_allocated",
    "torch.cuda.max_memory_reserved()": "peak_reserved",
}
# Kernels that are the libraries' own. fms-acceleration's loader only leaves out the float32 upcast of norms and head,
# which is the `trainer` path.
STOCK_KERNELS = (
    "stock",
    "stock prepare_model_for_kbit_training path via SFTTrainer",
    "fms quantized-PEFT loader (no fp32 upcast of norms/head)",
)
_FRAMEWORKS = ("HF Trainer", "transformers + PEFT", "TRL SFTTrainer", "PEFT method_comparison")
_EXACT_LENGTHS = ("packed_exact", "exact random tokens")
_OPTIMIZERS = {
    "torch AdamW (fp32 states)": "adamw_torch",
    "adamw_torch (HF default, not stated)": "adamw_torch",
    "adamw_torch": "adamw_torch",
    "adamw_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
}
_ATTENTION = {
    "flash_attention_2": ("flash_attention_2", "auto"),
    "eager": ("eager", "auto"),
    "sdpa": ("sdpa", "auto"),
    "sdpa (mem-efficient backend pinned, K/V expanded for GQA)": ("sdpa", "mem_efficient"),
}
# An instruction-tuned model has the shape of its base model.
_SAME_SHAPE = {"Qwen/Qwen2.5-1.5B-Instruct": "Qwen/Qwen2.5-1.5B"}
# `torch.cuda.get_device_properties(0).total_memory` as the sources say it, or NVIDIA's data sheet total.
_GPUS: dict[str, str | dict[str, Any]] = {
    "Tesla T4 (14,912 MiB)": {"name": "Tesla T4", "total_memory_bytes": 14_912 * MIB, "compute_capability": "7.5"},
    "A100-80GB": "a100-sxm-80gb",
    "2xRTX3090": "rtx-3090",
    "2xRTX4090": "rtx-4090",
}
_ALSO = {
    "peak_reserved": "peak_reserved_mib",
    "process": "process_mib",
    "load_resident": "after_load_allocated_mib",
    "forward_peak": "peak_forward_mib",
    "backward_peak": "peak_backward_mib",
    "optimizer_peak": "peak_optimizer_mib",
}


def _has_catalogue_model(row: Row) -> bool:
    try:
        resolve_model(str(_SAME_SHAPE.get(row["model"], row["model"])))
    except UnknownModelError:
        return False
    return True


def _is_cast_back(row: Row) -> bool:
    """Where kbit preparation raised everything to float32 and TRL brought part of it back.

    trl 0.13, `peft_module_casting_to_bf16`, with bf16 and a 4-bit model: embeddings and head return to bfloat16, norms
    stay. Such a run's allocation after training is that of bfloat16 embeddings. No preset has this mixture.
    """
    return "prepare_model_for_kbit_training" in row["kernels"] and row["base_dtype"] == "bfloat16"


# In this order: the first that holds is the reason a row is left out.
OBSTACLES: tuple[tuple[str, Callable[[Row], bool]], ...] = (
    ("no training step: inference, or weights alone", lambda row: row["category"] not in ("qlora", "lora", "full")),
    ("more than one GPU", lambda row: row["num_gpus"] != 1 or row["parallelism"] not in (None, "none")),
    ("no byte figure", lambda row: row["measured_bytes"] is None or row["outcome"] != "ok"),
    ("the metric is not said, or is no peak", lambda row: row["metric"] not in _METRICS),
    ("quantized otherwise than by bitsandbytes", lambda row: row["quant"] not in ("none", "nf4", "fp4")),
    ("kernels that replace the libraries' own", lambda row: row["kernels"] not in STOCK_KERNELS),
    ("model code of its own", lambda row: not str(row["framework"]).startswith(_FRAMEWORKS)),
    (
        "the sequence length depends on the data",
        lambda row: row["seq_len"] is None or not str(row["seq_len_kind"]).startswith(_EXACT_LENGTHS),
    ),
    ("a setting without a field in the Request", lambda row: row["optimizer"] not in _OPTIMIZERS),
    ("a setting without a field in the Request", lambda row: row["attn_impl"] not in _ATTENTION),
    ("float32 weights that TRL cast back to bfloat16", _is_cast_back),
    ("a card of which the total memory is not said", lambda row: row["gpu"] not in _GPUS),
    ("the model is not in the catalogue", lambda row: not _has_catalogue_model(row)),
)


def obstacle(row: Row) -> str | None:
    """Why this row cannot be a Request, or None when it can."""
    return next((reason for reason, holds in OBSTACLES if holds(row)), None)


def request_of(row: Row) -> dict[str, Any]:
    """The Request document of a row without obstacles."""
    attention, kernel = _ATTENTION[row["attn_impl"]]
    document: dict[str, Any] = {
        "model": _SAME_SHAPE.get(row["model"], row["model"]),
        "gpu": _GPUS[row["gpu"]],
        "method": row["category"],
        "training": {
            "per_device_train_batch_size": row["per_device_batch"],
            "gradient_accumulation_steps": row["grad_accum"] or 1,
            "max_length": row["seq_len"],
            "gradient_checkpointing": row["gradient_checkpointing"],
            "optim": _OPTIMIZERS[row["optimizer"]],
            "attn_implementation": attention,
            "sdpa_kernel": kernel,
            "loss": "full_logits",
            "max_grad_norm": 1.0 if _by_trainer(row) else 0.0,
        },
        "stack": _stack_of(row),
    }
    if row["category"] == "qlora":
        document["quantization"] = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": row["quant"],
            "bnb_4bit_use_double_quant": row["double_quant"],
            "bnb_4bit_compute_dtype": row["base_dtype"],
        }
    if row["category"] != "full":
        # The targets of a model that has them; "c_attn" is in the harness's list for all models and matches none here.
        targets = [name for name in row["lora_targets"].split() if name != "c_attn"]
        document["lora"] = {"r": row["lora_r"], "lora_dropout": row["lora_dropout"], "target_modules": targets}
    return document


def _by_trainer(row: Row) -> bool:
    return str(row["framework"]).startswith(("HF Trainer", "TRL"))


def _stack_of(row: Row) -> dict[str, Any]:
    """The switches as the row describes them; a plain loop keeps the model's outputs in a variable."""
    dtype = row["base_dtype"]
    upcast = "prepare_model_for_kbit_training" in f"{row['quant_scope']} {row['kernels']}"
    return {
        "model_dtype": dtype,
        "kbit_preparation": row["category"] == "qlora" and upcast,
        "autocast": dtype if "autocast" in row["compute_dtype"].split(",")[0] and _by_trainer(row) else None,
        "adapter_dtype": "float32",
        "outputs_kept": not _by_trainer(row),
    }


def converted(row: Row) -> dict[str, Any]:
    """One line of `published.jsonl`."""
    also = {name: round(row["other_metrics"][key] * MIB) for name, key in _ALSO.items() if key in row["other_metrics"]}
    return {
        "id": row["id"],
        "request": Request.parse(request_of(row)).model_dump(mode="json", exclude_defaults=True),
        "metric": _METRICS[row["metric"]],
        "bytes": row["measured_bytes"],
        "rounding_half_width_bytes": row["rounding_half_width_bytes"] or 0,
        "also": also,
        "versions": row["versions"],
        "gpu": row["gpu"],
        "harness": row["framework"],
        "source": row["source"],
        "source_url": row["source_url"],
        "date": row["date"],
        "grade": row["grade"],
        "doubts": row["ambiguities"],
    }


def convert(path: str, why_not: Callable[[Row], str | None], convert_row: Callable[[Row], Mapping[str, Any]]) -> int:
    """Write what can be converted to stdout, a line a row, and count what was left out on stderr, by reason."""
    reasons: Counter[str] = Counter()
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        reason = why_not(row)
        reasons[reason or "converted"] += 1
        if reason is None:
            print(json.dumps(convert_row(row), ensure_ascii=False))  # noqa: T201  # the product of this program
    for reason, count in reasons.most_common():
        print(f"{count:5d}  {reason}", file=sys.stderr)  # noqa: T201  # and its report
    return 0


if __name__ == "__main__":
    sys.exit(convert(sys.argv[1], obstacle, converted))
